"""Models that can be searched, their routers, and how both are made. Its names are loaded when asked for."""

from typing import TYPE_CHECKING

from duo_oracle.oracle.base.faces import face

if TYPE_CHECKING:
    from duo_oracle.models.api.model import Model, open_model
    from duo_oracle.models.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
    from duo_oracle.models.family import Family, load_model, load_module
    from duo_oracle.models.routable import RoutableModule
    from duo_oracle.models.router import Router, read_router

__all__ = [
    "Checkpoint",
    "Family",
    "Model",
    "RoutableModule",
    "Router",
    "load_model",
    "load_module",
    "open_model",
    "read_checkpoint",
    "read_router",
    "write_checkpoint",
]

__getattr__, __dir__ = face(
    __name__,
    {
        **dict.fromkeys(("Checkpoint", "read_checkpoint", "write_checkpoint"), "duo_oracle.models.checkpoint"),
        **dict.fromkeys(("Family", "load_model", "load_module"), "duo_oracle.models.family"),
        **dict.fromkeys(("Model", "open_model"), "duo_oracle.models.api.model"),
        "RoutableModule": "duo_oracle.models.routable",
        **dict.fromkeys(("Router", "read_router"), "duo_oracle.models.router"),
    },
)
