"""Encoders of segmentation-models-pytorch and timm, and where their weights come from."""

from __future__ import annotations

import os
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from jtr_lightning.disk import read_tensors
from jtr_lightning.errors import ConfigError, did_you_mean

TIMM = "tu-"
"""Before the name of an encoder that timm makes."""
WEIGHT_FILES = (".safetensors", ".pt", ".pth", ".ckpt", ".bin")
"""File names that end in one of these are weights on disk, never a name on the hub."""
CONNECT_SECONDS = 5.0
"""How long the hub may take to accept a connection before it counts as out of reach."""


def make_encoder(name: str, weights: str | None = None, output_stride: int = 32) -> nn.Module:
    """An encoder with five stages.

    Args:
        name: A name of segmentation-models-pytorch, or ``tu-`` and a name of timm.
        weights: None for random ones; a file; or the name of published weights (``imagenet``).
        output_stride: The image's size over that of the deepest feature; below 32 the encoder is dilated.

    Returns:
        A module from ``[B, 3, H, W]`` to the list of features, with ``out_channels`` and ``output_stride``.

    Raises:
        ConfigError: No such encoder, it cannot be used here, or its weights cannot be had or do not fit.
    """
    check_name(name)
    if weights is None:
        return build(name, output_stride)
    path = Path(weights) if is_file(weights) else download(name, weights)
    tensors = read_weights(path)
    try:
        return build_with(name, output_stride, tensors)
    except (RuntimeError, KeyError) as error:
        raise ConfigError(
            f"Parameter `encoder_weights` should be weights of the encoder '{name}'; those in '{path}' do not fit it: "
            f"{short(error)}. Give the file of this encoder, or the encoder of this file."
        ) from error


def check_name(name: str) -> None:
    """Refuses a name that no encoder has.

    Raises:
        ConfigError: There is no encoder of this name.
    """
    import timm
    from segmentation_models_pytorch.encoders import encoders

    if name in encoders or (name.startswith(TIMM) and timm.is_model(architecture(name))):
        return
    known = [*encoders, *(TIMM + model for model in timm.list_models())]
    hint = (
        did_you_mean(name, known)
        if get_close_matches(name, known)
        else "it should be an encoder of segmentation-models-pytorch, such as 'resnet18', or 'tu-' and a name of timm."
    )
    raise ConfigError(f"Parameter `encoder` should be the name of an encoder; found '{name}': {hint}")


def architecture(name: str) -> str:
    """The name in timm: without our ``tu-`` and without the tag of its weights."""
    return name.removeprefix(TIMM).partition(".")[0]


def build(name: str, output_stride: int, **timm_settings: Any) -> nn.Module:
    """Makes the encoder; ``timm_settings`` go to ``timm.create_model``.

    Raises:
        ConfigError: It has no pyramid of features at this stride.
    """
    from segmentation_models_pytorch.encoders import get_encoder

    try:
        encoder: nn.Module = get_encoder(
            name, weights=True if timm_settings else None, output_stride=output_stride, **timm_settings
        )
    except (ValueError, TypeError, AssertionError) as error:
        wanted = (
            "" if output_stride == 32 else f" at an output stride of {output_stride}, which the decoder needs"
        )
        raise ConfigError(
            f"Parameter `encoder` should be an encoder with feature maps at 1/2 or 1/4 to 1/32 of the image; '{name}' "
            f"cannot be used{wanted} ({short(error)}). Choose another encoder{' or decoder' if wanted else ''}."
        ) from error
    return encoder


# Weights


def is_file(weights: str) -> bool:
    """Whether weights are meant to be a file on disk."""
    named_so = weights.endswith(WEIGHT_FILES) or os.sep in weights or "/" in weights
    return named_so or Path(weights).is_file()


def read_weights(path: Path) -> dict[str, Tensor]:
    """Reads an encoder's tensors from a file, running no code from it.

    Understands ``.safetensors``, a saved state dict, and a checkpoint of a whole network: of Lightning, of this library
    or of segmentation-models-pytorch, whose encoder is taken.

    Args:
        path: The file.

    Returns:
        Name to tensor, at least one.

    Raises:
        ConfigError: No such file, unreadable, or without tensors.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        raise ConfigError(
            f"Parameter `encoder_weights` should be a file of weights; found no file at '{path}'. Give the path of "
            "one, the name of published weights such as 'imagenet', or null to start from random ones."
        )
    try:
        content = load_file(path) if path.suffix == ".safetensors" else read_tensors(path)
    except (OSError, ValueError, SafetensorError) as error:
        raise ConfigError(
            f"Parameter `encoder_weights` should be a file of plain tensors; '{path}' could not be read "
            f"({error}). It is damaged, or holds objects, which are never unpickled."
        ) from error
    for key in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    tensors = (
        {k: v for k, v in content.items() if isinstance(v, Tensor)} if isinstance(content, Mapping) else {}
    )
    if not tensors:
        raise ConfigError(
            f"Parameter `encoder_weights` should be a file of tensors by name; '{path}' holds none."
        )
    return without_prefix(tensors)


def without_prefix(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The encoder's tensors alone, by the names that they have in the encoder."""
    # What a parallel wrapper or torch.compile put before every name.
    for prefix in ("module.", "_orig_mod.", "module."):
        if all(key.startswith(prefix) for key in tensors):
            tensors = {key.removeprefix(prefix): v for key, v in tensors.items()}
    # This library's module, a network of this library or of segmentation-models-pytorch.
    for prefix in ("network.encoder.", "encoder."):
        inside = {key.removeprefix(prefix): v for key, v in tensors.items() if key.startswith(prefix)}
        if inside:
            return inside
    return tensors


def build_with(name: str, output_stride: int, tensors: dict[str, Tensor]) -> nn.Module:
    """Makes the encoder and loads all its weights.

    Raises:
        RuntimeError: A tensor is missing, has another shape or is not the encoder's.
        KeyError: timm's conversion of older files misses a tensor.
    """
    if name.startswith(TIMM):
        plain = build(name, output_stride)
        if not tensors.keys() <= plain.state_dict().keys():
            return build_from_timm_file(name, output_stride, tensors)
    else:
        plain = build(name, output_stride)
    # Some encoders' load_state_dict drops the classifier from the dict that it is given.
    plain.load_state_dict(dict(tensors))
    return plain


def build_from_timm_file(name: str, output_stride: int, tensors: dict[str, Tensor]) -> nn.Module:
    """Makes a timm encoder from the weights of the whole classifier, which have other names."""
    import timm

    overlay = {"state_dict": dict(tensors)}
    # timm skips what does not fit when it makes an encoder, without a word; making the classifier, it raises.
    timm.create_model(name.removeprefix(TIMM), pretrained=True, pretrained_cfg_overlay=overlay)
    return build(name, output_stride, pretrained_cfg_overlay={"state_dict": dict(tensors)})


def short(error: Exception) -> str:
    """What an error of another library says, on one line of at most 200 characters."""
    text = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    return text if len(text) <= 200 else text[:197] + "..."


# The hub


def download(name: str, weights: str) -> Path:
    """The file of an encoder's published weights, from the cache of earlier downloads or from the hub.

    Args:
        name: The encoder.
        weights: The name of its weights.

    Raises:
        ConfigError: There are none of this name, or they cannot be downloaded.
    """
    from huggingface_hub import constants, hf_hub_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    repository, filename, revision = published(name, weights)
    try:
        return Path(hf_hub_download(repository, filename, revision=revision, local_files_only=True))
    except LocalEntryNotFoundError:
        pass
    try:
        if constants.HF_HUB_OFFLINE:
            raise OSError("HF_HUB_OFFLINE is set")
        connect(constants.ENDPOINT)
        return Path(hf_hub_download(repository, filename, revision=revision))
    except (
        Exception
    ) as error:  # the client's errors differ by its version: refused, timed out, offline, not found ...
        raise ConfigError(
            f"The weights '{weights}' of the encoder '{name}' should be downloaded from "
            f"{constants.ENDPOINT}/{repository}; that failed ({short(error)}). Connect this machine, or fetch "
            f"'{filename}' from there on another one and give its path as `encoder_weights`, or set it to null "
            "to start from random weights."
        ) from error


def published(name: str, weights: str) -> tuple[str, str, str | None]:
    """Where an encoder's published weights are: repository, file name, revision.

    Raises:
        ConfigError: There are none of this name.
    """
    import timm
    from segmentation_models_pytorch.encoders import encoders

    if not name.startswith(TIMM):
        settings = encoders[name]["pretrained_settings"]
        if weights not in settings:
            raise unknown_weights(name, weights, list(settings))
        return settings[weights]["repo_id"], "model.safetensors", settings[weights]["revision"]
    model = name.removeprefix(TIMM)
    tags = [full.partition(".")[2] for full in timm.list_pretrained(f"{architecture(name)}.*")]
    if tags and weights != "imagenet":
        model = f"{architecture(name)}.{weights}"
    config = timm.models.get_pretrained_cfg(model) if not tags or weights in (*tags, "imagenet") else None
    if config is None or not config.hf_hub_id:
        raise unknown_weights(name, weights, ["imagenet", *tags] if tags else [])
    return config.hf_hub_id, config.hf_hub_filename or "model.safetensors", None


def unknown_weights(name: str, weights: str, known: list[str]) -> ConfigError:
    """The error for weights that nobody published."""
    choice = did_you_mean(weights, known) if known else "none are published for it; use null or a file."
    return ConfigError(
        f"Parameter `encoder_weights` should be null, a file, or the name of published weights of '{name}'; found "
        f"'{weights}': {choice}"
    )


def connect(endpoint: str) -> None:
    """Opens and closes a connection: the hub's own client tries for half a minute before it gives up.

    Raises:
        OSError: The endpoint cannot be reached in ``CONNECT_SECONDS``.
    """
    import socket
    from urllib.parse import urlsplit
    from urllib.request import getproxies

    address = urlsplit(endpoint)
    if address.scheme in getproxies():
        return  # the proxy decides, and the client knows how to ask it
    port = address.port or (443 if address.scheme == "https" else 80)
    socket.create_connection((address.hostname or "", port), timeout=CONNECT_SECONDS).close()
