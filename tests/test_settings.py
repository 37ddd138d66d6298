import os
import subprocess
import sys
from pathlib import Path

import pytest

from runtime.errors import InvalidSetting
from runtime.link.gateway import Gateway
from runtime.options import GROUPS
from runtime.settings import OPTIONS, Settings
from tests.terminal import Terminal


def read(*arguments: str, **environ: str) -> Settings:
    return Settings.read(["--kit", "host.example/m:v1", *arguments], environ)


def test_flag_wins_over_variable_and_variable_over_default():
    assert read().port == 8080
    assert read(RUNTIME_PORT="81").port == 81
    assert read("--port", "82", RUNTIME_PORT="81").port == 82


@pytest.mark.parametrize(
    ("environ", "port"),
    [
        pytest.param({"PORT": "90"}, 90, id="PORT alone"),
        pytest.param({"PORT": "90", "RUNTIME_PORT": "91"}, 91, id="our own variable wins"),
        pytest.param({"SAGEMAKER_BIND_TO_PORT": "92"}, 92, id="SageMaker"),
        pytest.param({"AIP_HTTP_PORT": "93", "PORT": "90"}, 93, id="Vertex AI"),
        pytest.param({"RUNTIME_PORT": "tcp://10.0.0.1:80"}, 8080, id="Kubernetes service link"),
        pytest.param({"RUNTIME_PORT": "tcp://10.0.0.1:80", "PORT": "90"}, 90, id="service link, then PORT"),
    ],
)
def test_port_comes_from(environ, port):
    assert read(**environ).port == port


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--port", "99999"], "--port is '99999', wanted a whole number from 0 to 65535"),
        (["--port", "1.5"], "--port is '1.5', wanted a whole number from 0 to 65535"),
        (["--grpc-port", "-1"], "--grpc-port is '-1', wanted a whole number from 0 to 65535, or off"),
        (["--workers", "0"], "--workers is '0', wanted a whole number from 1 to 256, or auto"),
        (["--batching", "always"], "--batching is 'always', wanted auto, exact, off, or a whole number from 1 to 65536"),
        (["--drain-delay", "soon"], "--drain-delay is 'soon', wanted seconds, from 0 to 86400"),
        (["--drain-delay", "nan"], "--drain-delay is 'nan', wanted seconds, from 0 to 86400"),
        (["--drain-delay", "9"], "--drain-delay 9 is longer than --drain-timeout 7, which includes it"),
        (["--log-level", "loud"], "--log-level is 'loud', wanted one of debug, info, warning, error"),
        (["--cache-dir", "~no-such-user/x"], "--cache-dir is '~no-such-user/x', wanted a path; there is no such home folder"),
        (["--root-path", "/a/"], "--root-path is '/a/', wanted a path such as /models/iris, without a slash at its end"),
        (["--predict-route", "/{model}"], "--predict-route is '/{model}', wanted a path such as /predict, and none of /metrics, /openapi.json, /docs"),
        (["--health-route", "ready"], "--health-route is 'ready', wanted a path such as /predict, and none of /metrics, /openapi.json, /docs"),
        (["--health-route", "/metrics"], "--health-route is '/metrics', wanted a path such as /predict, and none of /metrics, /openapi.json, /docs"),
        (["--cors-origin", "app.example.com"], "--cors-origin is 'app.example.com', wanted origins such as https://app.example.com, with commas between, or *"),
        *((["--access-log", text], f"--access-log is {text!r}, wanted all, errors, off, or sample:SHARE with a share between 0 and 1, as sample:0.01") for text in ("none", "sample", "sample:", "sample:2", "sample:0", "sample:.0", "sample:1e-3", "errors:0.1")),
        (["--bogus"], "unrecognized arguments: --bogus; `runtime --help` lists the options"),
        (["--model-name", ""], "--model-name is '', wanted a text that is not empty and has no control characters"),
    ],
)  # fmt: skip
def test_a_bad_value_is_named_with_what_was_wanted(arguments, message):
    with pytest.raises(InvalidSetting) as caught:
        read(*arguments)
    assert str(caught.value) == message


def test_a_bad_variable_is_named_as_variable():
    with pytest.raises(InvalidSetting, match=r"^RUNTIME_PLAIN_HTTP is 'maybe', wanted true or false$"):
        read(RUNTIME_PLAIN_HTTP="maybe")


def test_what_stands_in_front_is_read():
    given = read("--root-path", "/m/iris", "--cors-origin", "https://a.example,http://localhost:3000", "--cors-origin", "*",
                 AIP_PREDICT_ROUTE="/v1/endpoints/7:predict", AIP_HEALTH_ROUTE="/up", RUNTIME_HEALTH_ROUTE="/ready")  # fmt: skip
    assert given.gateway == Gateway(
        "/m/iris", ("https://a.example", "http://localhost:3000", "*"), "/v1/endpoints/7:predict", "/ready"
    )
    assert read().gateway == Gateway()


def test_a_missing_kit_says_how_to_give_one():
    with pytest.raises(
        InvalidSetting, match=r"^no kit to serve: `runtime REF`, or set RUNTIME_KIT; `runtime --help` says more$"
    ):
        Settings.read([], {})


KIT = "host.example/m:v1"


@pytest.mark.parametrize(
    "arguments",
    [
        [KIT],
        ["serve", KIT],
        ["--kit", KIT],
        ["serve", "--kit", KIT],
        [KIT, "--port", "81"],
        ["--port", "81", KIT],
        ["--plain-http", KIT, "--port", "81"],
        ["serve", "--port", "81", KIT],
        ["--kit", KIT, KIT],
    ],
    ids=" ".join,
)
def test_the_reference_needs_no_flag(arguments):
    settings = Settings.read(arguments, {"RUNTIME_KIT": "other.example/n:v2"})
    assert (settings.command, settings.kit, settings.port) == ("serve", KIT, 81 if "81" in arguments else 8080)


@pytest.mark.parametrize("command", ["pull", "inspect", "verify"])
def test_a_command_takes_its_reference_either_way(command):
    assert Settings.read([command, KIT], {}).kit == Settings.read([command, "--kit", KIT], {}).kit == KIT


@pytest.mark.parametrize(
    "reference", ["m:v1", "oci:kit", "./kit", ".", "/kit", "~", "name=host.example/m", "kit://host.example/m:v1"]
)
def test_what_may_be_a_reference_is_one(reference):
    assert Settings.read([reference], {}).kit == reference


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["serv"], "unknown command 'serv' (did you mean 'serve'?): the commands are serve, pull, inspect, verify, predict, unpack, schema, cache, health;"),
        (["inspct", KIT, "--files"], "(did you mean 'inspect'?)"),
        (["iris"], "health; to serve a kit of that name, runtime serve iris"),
        (["--port", "81", "iris"], "unknown command 'iris'"),
        (["--port", "81", "pull", KIT], "the command comes first: runtime pull …"),
        (["--kit", KIT, "--kit", KIT], "2 references were given, wanted one"),
        (["--kit", KIT, "other.example/n"], "2 references were given, wanted one"),
        ([KIT, "other.example/n"], "2 references were given, wanted one"),
        (["pull", KIT, "other.example/n"], "2 references were given, wanted one"),
        ([""], "--kit is '', wanted a text that is not empty"),
    ],
)  # fmt: skip
def test_a_command_line_that_means_nothing_gets_a_line_that_helps(arguments, message):
    with pytest.raises(InvalidSetting) as caught:
        Settings.read(arguments, {"RUNTIME_KIT": KIT})
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["model.onnx"], "'model.onnx' is a file here; to use it as a model, write ./model.onnx"),
        (["verify", "model.onnx"], "write ./model.onnx"),
        (["predict", "rows.csv"], "write ./rows.csv; as rows, runtime predict REF rows.csv"),
        (["predict", "./model.onnx", "rows.csv", "more.csv"], "2 references were given, wanted one and one file"),
        (["model"], "'model' lies here; to serve it as a model, write ./model"),
    ],
)
def test_a_model_that_lies_here_needs_its_path(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("model.onnx", "rows.csv"):
        Path(name).touch()
    Path("model").mkdir()
    with pytest.raises(InvalidSetting) as caught:
        Settings.read(arguments, {})
    assert str(caught.value).endswith(message)
    assert Settings.read(["./model.onnx"], {}).kit == "./model.onnx"


def test_an_empty_variable_is_an_unset_one():
    variables = [option.variable for option in OPTIONS]
    assert read(**dict.fromkeys([*variables, "PORT", "XDG_CACHE_HOME", "TMPDIR", "RUNTIME_NO_OPTION"], "")) == read()
    with pytest.raises(InvalidSetting, match=r"^no kit to serve"):
        Settings.read([], {"RUNTIME_KIT": ""})


@pytest.mark.parametrize("option", [o for o in OPTIONS if "serve" in o.commands and o.metavar], ids=lambda o: o.name)
def test_an_empty_flag_is_a_mistake(option):
    with pytest.raises(InvalidSetting, match=rf"^--{option.name} is '', wanted .*$"):
        Settings.read(["serve", f"--{option.name}", ""], {"RUNTIME_KIT": KIT})


@pytest.mark.parametrize(
    ("text", "share"), [("all", 1), ("sample:0.01", 0.01), ("sample:.5", 0.5), ("errors", 0), ("off", -1)]
)
def test_the_access_log_is_all_or_a_share(text, share):
    assert read("--access-log", text).access_log == share


def test_unknown_variables_are_reported_and_service_links_are_not():
    settings = read(
        RUNTIME_KITT="x", RUNTIME_SERVICE_HOST="10.0.0.1", RUNTIME_PORT_80_TCP_ADDR="10.0.0.1", RUNTIME_PORT="tcp://x"
    )
    assert settings.unknown_variables == ("RUNTIME_KITT",)


def test_pull_takes_its_reference_by_position():
    assert Settings.read(["pull", "host.example/m:v1"], {}).kit == "host.example/m:v1"


def test_cache_stands_in_the_home_folder_or_in_tmp(tmp_path):
    assert read(HOME=str(tmp_path)).cache_dir == tmp_path / ".cache/modelkit-runtime"
    assert read(XDG_CACHE_HOME="/x").cache_dir.as_posix() == "/x/modelkit-runtime"
    assert "modelkit-runtime-" in str(read(HOME="/nowhere").cache_dir)


def test_help_names_every_option_of_serving(capsys):
    with pytest.raises(SystemExit) as end:
        Settings.read(["--help"], {})
    shown = capsys.readouterr().out
    assert end.value.code == 0
    assert [o.name for o in OPTIONS if "serve" in o.commands and f"--{o.name}" not in shown] == []


@pytest.mark.slow
@pytest.mark.parametrize("columns", [80, 40, 3])
def test_help_is_no_wider_than_its_terminal_but_for_long_words(columns):
    terminal = Terminal(columns)
    subprocess.run([sys.executable, "-m", "runtime", "--help"], stdout=terminal.fd, check=True, timeout=60)
    usage, _, rest = terminal.shown().partition("\n\n")
    assert usage == "usage: runtime REF [options]\n       runtime COMMAND …"
    wide = [line for line in rest.splitlines() if len(line) > max(columns, 40) and " " in line.strip()]
    assert wide == []
    if columns == 80:
        assert "\n  [NAME=]NAME[:TAG], local://NAME[:TAG]\n      Kit's own store" in rest


def test_unpack_takes_pairs():
    settings = Settings.read(
        ["unpack", "kit://host.example/m:v1", "/mnt/a", "host.example/n:v1", "b", "--plain-http"], {}
    )
    assert settings.pairs == (("kit://host.example/m:v1", Path("/mnt/a")), ("host.example/n:v1", Path("b")))
    assert settings.plain_http


def test_the_usual_cache_is_in_no_folder_that_a_kit_goes_to(tmp_path):
    home = str(tmp_path / "home")
    (tmp_path / "home").mkdir()
    cache = Settings.read(["unpack", "host.example/m:v1", home], {"HOME": home, "TMPDIR": "/somewhere"}).cache_dir
    assert cache == Path(f"/somewhere/modelkit-runtime-{os.getuid()}")


def test_every_option_is_in_one_group_of_the_help():
    assert sorted(name for names in GROUPS.values() for name in names) == sorted(option.name for option in OPTIONS)


def test_a_user_needs_a_file_with_the_password() -> None:
    settings = Settings.read(["pull", "h.x/m", "--registry-user=ada", "--registry-password-file=/run/p"], {})
    assert settings.pull_options.registry_user == "ada"
    assert settings.pull_options.registry_password_file == Path("/run/p")
    with pytest.raises(InvalidSetting, match="--registry-user and --registry-password-file are given together or not"):
        Settings.read(["pull", "h.x/m"], {"RUNTIME_REGISTRY_USER": "ada"})


def test_labels_and_mirrors_may_be_repeated_or_listed() -> None:
    words = ["pull", "h.x/m", "--select=a=1,b=x=y", "--select=c=", "--mirror=docker.io=m.x:5000/hub,h.x=n.x"]
    with pytest.raises(InvalidSetting, match="--select is 'a=1,b=x=y,c=', wanted labels such as quantization=int8"):
        Settings.read(words, {})
    settings = Settings.read([word for word in words if word != "--select=c="], {})
    assert settings.select == (("a", "1"), ("b", "x=y"))
    assert settings.mirror == (("docker.io", "m.x:5000/hub"), ("h.x", "n.x"))
    with pytest.raises(InvalidSetting, match=r"RUNTIME_MIRROR is 'docker.io=https://m.x', wanted hosts such as"):
        Settings.read(["pull", "h.x/m"], {"RUNTIME_MIRROR": "docker.io=https://m.x"})
