"""Weights from the form they are published in to the GGUF file the engine runs best."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGMLQuantizationType as Kind
from gguf import GGUFReader, GGUFValueType, GGUFWriter, LlamaFileType, PoolingType, TokenType
from gguf.quants import dequantize, quantize
from numpy.typing import NDArray

BERT_LAYER = {
    "attention.self.query": "attn_q",
    "attention.self.key": "attn_k",
    "attention.self.value": "attn_v",
    "attention.output.dense": "attn_output",
    "attention.output.LayerNorm": "attn_output_norm",
    "intermediate.dense": "ffn_up",
    "output.dense": "ffn_down",
    "output.LayerNorm": "layer_output_norm",
}
BERT_EMBEDDINGS = {
    "word_embeddings.weight": "token_embd.weight",
    "position_embeddings.weight": "position_embd.weight",
    "token_type_embeddings.weight": "token_types.weight",
    "LayerNorm.weight": "token_embd_norm.weight",
    "LayerNorm.bias": "token_embd_norm.bias",
}


def requantise(source: Path, target: Path) -> None:
    """Write `source` with every quantised matrix as Q8_0; vectors stay as they are."""
    reader = GGUFReader(source)
    architecture = reader.fields["general.architecture"].contents()
    writer = GGUFWriter(target, architecture)
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name == "general.architecture":
            continue
        value = field.contents()
        if name == "general.file_type":
            value = LlamaFileType.MOSTLY_Q8_0
        inner = field.types[-1] if field.types[0] == GGUFValueType.ARRAY else None
        writer.add_key_value(name, value, field.types[0], inner)
    for tensor in reader.tensors:
        if tensor.tensor_type in (Kind.F32, Kind.Q8_0):
            writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
            continue
        matrix = dequantize(tensor.data, tensor.tensor_type)
        writer.add_tensor(tensor.name, quantize(matrix, Kind.Q8_0), raw_dtype=Kind.Q8_0)
    finish(writer)


def finish(writer: GGUFWriter) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def read_safetensors(path: Path) -> dict[str, NDArray[np.float32]]:
    """Every float32 tensor of the file, mapped, not copied."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header: dict[str, Any] = json.loads(file.read(length))
    whole = np.memmap(path, dtype=np.uint8, mode="r", offset=8 + length)
    tensors = {}
    for name, entry in header.items():
        if name != "__metadata__" and entry["dtype"] == "F32":
            begin, end = entry["data_offsets"]
            tensors[name] = whole[begin:end].view(np.float32).reshape(entry["shape"])
    return tensors


def bert(
    weights: Path, config: Mapping[str, Any], vocabulary: list[str], target: Path, kind: Kind
) -> None:
    """Write a BERT sentence encoder with mean pooling; matrices as `kind`, the rest float32."""
    writer = GGUFWriter(target, "bert")
    writer.add_name(target.name)
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_layer_norm_eps(config["layer_norm_eps"])
    writer.add_causal_attention(False)
    writer.add_pooling_type(PoolingType.MEAN)
    full = LlamaFileType.ALL_F32 if kind == Kind.F32 else LlamaFileType.MOSTLY_F16
    writer.add_file_type(full)
    add_wordpiece(writer, vocabulary, config["type_vocab_size"])
    tensors = read_safetensors(weights)
    for name, ours in bert_names(config["num_hidden_layers"]).items():
        tensor = tensors[name]
        small = tensor.ndim < 2 or ours in ("position_embd.weight", "token_types.weight")
        if small or kind == Kind.F32:
            writer.add_tensor(ours, np.ascontiguousarray(tensor))
        else:
            writer.add_tensor(ours, quantize(tensor, kind), raw_dtype=kind)
    finish(writer)


def bert_names(layers: int) -> dict[str, str]:
    names = {f"embeddings.{theirs}": ours for theirs, ours in BERT_EMBEDDINGS.items()}
    for layer in range(layers):
        for theirs, ours in BERT_LAYER.items():
            for part in ("weight", "bias"):
                names[f"encoder.layer.{layer}.{theirs}.{part}"] = f"blk.{layer}.{ours}.{part}"
    return names


def add_wordpiece(writer: GGUFWriter, vocabulary: list[str], token_types: int) -> None:
    """The vocabulary as llama.cpp wants it: words begin with U+2581, pieces lose their ##."""
    special = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"}
    tokens, kinds = [], []
    for token in vocabulary:
        control = token.startswith("[") and token.endswith("]") and len(token) > 2
        if control:
            tokens.append(token)
        else:
            tokens.append(token[2:] if token.startswith("##") else f"\u2581{token}")
        kinds.append(TokenType.CONTROL if token in special else TokenType.NORMAL)
    writer.add_tokenizer_model("bert")
    writer.add_token_type_count(token_types)
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_pad_token_id(vocabulary.index("[PAD]"))
    writer.add_unk_token_id(vocabulary.index("[UNK]"))
    writer.add_bos_token_id(vocabulary.index("[CLS]"))
    writer.add_sep_token_id(vocabulary.index("[SEP]"))
    writer.add_eos_token_id(vocabulary.index("[SEP]"))
    writer.add_mask_token_id(vocabulary.index("[MASK]"))
