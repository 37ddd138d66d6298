import pytest

from runtime.kit.format.ignore import ignoring, read_patterns


@pytest.mark.parametrize(
    ("text", "ignored", "kept"),
    [
        ("old/", ["old", "old/m.onnx", "old/a/b"], ["older", "a/old", "m.onnx"]),
        ("/old", ["old/x"], ["a/old"]),
        ("*.log", ["a.log"], ["src/a.log", "alog"]),  # as in the golden kit `everything`
        ("**/*.log", ["a.log", "src/a.log", "src/deep/a.log", "a.log/x"], ["a.logs"]),
        ("src/**", ["src/a", "src/a/b"], ["src", "srcs/a"]),
        ("a**/b", ["a/b", "ax/y/b"], ["b"]),
        ("m?.bin", ["m1.bin"], ["m.bin", "m/.bin", "m12.bin"]),
        ("m[0-3].bin", ["m1.bin"], ["m4.bin"]),
        ("a\\*b", ["a*b"], ["axb"]),
        ("*\n!keep.txt", ["a", "keep.txts"], ["keep.txt"]),
        ("old\n!old/a\nold/a/b", ["old/x", "old/a/b"], ["old/a", "old/a/c"]),
        ("# note\n\n  .\\/x  \n./y//z", ["y/z"], ["# note"]),
        ("", [], ["a"]),
    ],
)
def test_patterns_match_as_for_docker(text: str, ignored: list[str], kept: list[str]) -> None:
    is_ignored = ignoring(read_patterns(text))
    assert [path for path in ignored + kept if is_ignored(path)] == ignored


@pytest.mark.parametrize(
    ("text", "reason"),
    [("!", "'!' has nothing after the '!'"), ("[b-a]", r"'\[b-a\]' is not a pattern: bad character range b-a")],
)
def test_a_pattern_that_cannot_be_read_is_named(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        read_patterns(text)
