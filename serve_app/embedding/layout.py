"""Reads the configuration of a sentence-transformers model from its JSON files, without torch.

`modules.json` lists the pipeline. Without it the model is a transformer with mean pooling, as in
sentence-transformers; a cross-encoder is a transformer alone. `sentence_*_config.json` has max_seq_length and
do_lower_case. The other files are `config.json`, `tokenizer_config.json` and the `config.json` of each Pooling and
Dense module. Both layouts are supported: the old one (pooling_mode_* flags, word_embedding_dimension) and the new one
(pooling_mode, embedding_dimension).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from serve_app.errors import ConfigurationError

JsonDict = dict[str, Any]
Side = Literal["left", "right"]

POOLING_MODES = ("cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")
LEGACY_POOLING_FLAGS = (
    "pooling_mode_cls_token",
    "pooling_mode_max_tokens",
    "pooling_mode_mean_tokens",
    "pooling_mode_mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens",
    "pooling_mode_lasttoken",
)
SAME_WIDTH = frozenset({"Normalize", "Dropout", "LayerNorm"})  # modules that keep the dimension
HIDDEN_SIZE = ("hidden_size", "d_model", "dim", "n_embd")  # names in different families of transformers
DEFAULT_LABELS = 2  # the default of transformers if config.json names no labels
NO_LIMIT_TOKENS = 1_000_000  # tokenizers without a limit have 10^30


@dataclass(frozen=True, slots=True)
class Layout:
    """transformer: folder with config.json, weights and tokenizer. dim: dimension of the sentence vector; 1 for a
    cross-encoder, which returns a score. max_tokens: includes special tokens. pad_token: None if the tokenizer has
    none; padding is masked, so any id works."""

    transformer: Path
    dim: int
    max_tokens: int
    do_lower_case: bool
    truncation_side: Side
    padding_side: Side
    pad_token: str | None
    default_prompt: str | None


def read_layout(path: Path) -> Layout:
    """Raises ConfigurationError if the folder has no sentence-transformers model, or its pipeline is not supported."""
    modules = _modules(path)
    transformer = path / modules[0]["path"]
    config = _transformer_config(transformer)
    return _layout(path, transformer, config, _sentence_dim(path, modules[1:], config))


def read_cross_encoder_layout(path: Path) -> Layout:
    """Raises ConfigurationError if the folder has no cross-encoder, or if the model returns more than one score."""
    modules = read_json(path / "modules.json").get("items") or [{"type": "Transformer", "path": ""}]
    transformer = path / modules[0]["path"]
    config = _transformer_config(transformer)
    classes = [str(name) for name in config.get("architectures") or ()]
    if len(modules) > 1 or not any(name.endswith("ForSequenceClassification") for name in classes):
        kinds = ", ".join([*classes, *(str(module["type"]).rpartition(".")[2] for module in modules[1:])])
        raise ConfigurationError(f"{path} is not a cross-encoder (…ForSequenceClassification alone): it has {kinds}")
    labels = len(config.get("id2label") or ()) or DEFAULT_LABELS
    if labels != 1:
        raise ConfigurationError(f"{path}: the cross-encoder returns {labels} labels; it must return one score")
    return _layout(path, transformer, config, dim=1)


def _transformer_config(transformer: Path) -> JsonDict:
    config = read_json(transformer / "config.json")
    if not config:
        raise ConfigurationError(f"{transformer} has no config.json: not a sentence-transformers model")
    return config


def _layout(path: Path, transformer: Path, config: JsonDict, dim: int) -> Layout:
    sentence = _sentence_config(transformer)
    tokenizer = read_json(transformer / "tokenizer_config.json")
    return Layout(
        transformer=transformer,
        dim=dim,
        max_tokens=_max_tokens(path, sentence, tokenizer, config),
        do_lower_case=bool(sentence.get("do_lower_case", False)),
        truncation_side=tokenizer.get("truncation_side", "right"),
        padding_side=tokenizer.get("padding_side", "right"),
        pad_token=_token_text(tokenizer.get("pad_token")),
        default_prompt=read_json(path / "config_sentence_transformers.json").get("default_prompt_name"),
    )


def read_json(path: Path) -> JsonDict:
    """The JSON object in the file; empty if the file does not exist. A value of another type is under the key `items`.
    Raises ConfigurationError if the file is not JSON."""
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise ConfigurationError(f"cannot read {path}: {error}") from error
    return content if isinstance(content, dict) else {"items": content}


def _modules(path: Path) -> list[JsonDict]:
    """The pipeline. kind: the last part of each module's type. The first module is a Transformer."""
    listed = read_json(path / "modules.json").get("items")
    if listed is None:
        return [{"kind": "Transformer", "path": ""}, {"kind": "Pooling", "path": None}]
    modules = [{"kind": str(item["type"]).rpartition(".")[2], "path": item["path"]} for item in listed]
    for number, module in enumerate(modules):
        expected = {"Transformer"} if number == 0 else {"Pooling", "Dense"} | SAME_WIDTH
        if module["kind"] not in expected:
            raise ConfigurationError(
                f"{path}: module {number} of the model is {module['kind']}; "
                f"supported in this place: {', '.join(sorted(expected))}"
            )
    if all(module["kind"] != "Pooling" for module in modules):
        raise ConfigurationError(f"{path}: the model has no Pooling module, so it gives no sentence vector")
    return modules


def _sentence_dim(path: Path, modules: Sequence[JsonDict], config: JsonDict) -> int:
    dim = int(next((config[key] for key in HIDDEN_SIZE if key in config), 0))
    for module in modules:
        if module["path"] is None or module["kind"] in SAME_WIDTH:
            continue
        own = read_json(path / module["path"] / "config.json")
        if module["kind"] == "Dense":
            dim = int(own["out_features"])
        else:
            width = int(own.get("embedding_dimension") or own.get("word_embedding_dimension") or dim)
            dim = width * len(_pooling_modes(path, own))
    if dim < 1:
        raise ConfigurationError(f"{path}: config.json names none of {', '.join(HIDDEN_SIZE)}")
    return dim


def _pooling_modes(path: Path, config: JsonDict) -> list[str]:
    named = config.get("pooling_mode")
    if named is None:
        return [flag for flag in LEGACY_POOLING_FLAGS if config.get(flag)] or ["mean"]
    modes = [named] if isinstance(named, str) else list(named)
    if unknown := [mode for mode in modes if mode not in POOLING_MODES]:
        raise ConfigurationError(f"{path}: pooling {unknown[0]!r} is not one of {', '.join(POOLING_MODES)}")
    return modes


def _sentence_config(transformer: Path) -> JsonDict:
    """`sentence_bert_config.json`; older models name it after their own family, not `bert`."""
    found = sorted(transformer.glob("sentence_*_config.json"))
    return read_json(found[0]) if found else {}


def _max_tokens(path: Path, sentence: JsonDict, tokenizer: JsonDict, config: JsonDict) -> int:
    """The limit as in sentence-transformers: max_seq_length, else the smaller of the tokenizer's and the model's."""
    own = sentence.get("max_seq_length")
    positions = config.get("max_position_embeddings")
    limits = [own] if own else [tokenizer.get("model_max_length"), positions if positions != -1 else None]
    known = [int(limit) for limit in limits if limit and limit < NO_LIMIT_TOKENS]
    if not known:
        raise ConfigurationError(f"{path}: no token limit; set max_seq_length in sentence_bert_config.json")
    return min(known)


def _token_text(token: str | JsonDict | None) -> str | None:
    return token["content"] if isinstance(token, dict) else token
