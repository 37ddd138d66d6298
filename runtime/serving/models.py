"""The table of what is served, by name, and what to say of a name that is not in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from runtime.errors import NotReady, RequestFailed, UnknownModel
from runtime.serving.wording import listed, shown

if TYPE_CHECKING:
    from runtime.serving.health import Health
    from runtime.serving.served import Served
    from runtime.serving.statuses import Response


class Models(Mapping[str, "Served"]):
    """A view of a mapping that is filled while the server runs."""

    def __init__(self, served: Mapping[str, Served], health: Health) -> None:
        self._served, self.health = served, health

    def __getitem__(self, name: str) -> Served:
        return self._served[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._served)

    def __len__(self) -> int:
        return len(self._served)

    def find(self, model: str, version: str | None = None) -> Served:
        """The model of that name. Raises UnknownModel, and NotReady where it is yet to come."""
        served = self._served.get(model)
        if served is None:
            raise self._missing(model)
        versions = served.provenance.served_versions
        if version is not None and version not in versions:
            raise UnknownModel(f"unknown version {shown(version)} of model {shown(model)}; it has {listed(versions)}")
        return served

    def find_ready(self, model: str, version: str | None = None) -> Served:
        """As `find`; raises NotReady while predictions are not to be sent here."""
        served = self.find(model, version)
        if not self.health.model_ready(model):
            raise NotReady(f"model {listed([model])} is not ready: {self._reason()}")
        return served

    def stamped(self, response: Response, parameters: Mapping[str, str]) -> Response:
        """`response`; if the parameters of its path name a model, with the headers that say where that is from."""
        served = self._served.get(parameters.get("model", ""))
        return response if served is None else served.stamp(response)

    def _missing(self, model: str) -> RequestFailed:
        names = self.health.model_names
        if not self.health.ready and not self._served and (model in names or not names):
            return NotReady(f"model {shown(model)} is not ready: {self._reason()}; try again")
        return UnknownModel(f"unknown model {shown(model)}; this server has {listed(self._served or names)}")

    def _reason(self) -> str:
        return str(self.health.report().get("reason", "loading"))
