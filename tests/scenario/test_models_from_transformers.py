"""Models as people use them: Bert, GPT-2, Llama and ViT of `transformers`, tiny and random, and LoRA through `peft`."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
import torch
from support.operations import assert_equals_loop
from torch import Tensor, nn
from torch.nn import functional

os.environ.setdefault("HF_HUB_OFFLINE", "1")
transformers = pytest.importorskip("transformers")

B, T, V = 3, 5, 11

SINGLE = 1e-6
"""Llama and T5 normalise in single precision, whatever the model's."""


def tokens(*shape: int) -> Tensor:
    torch.manual_seed(0)
    return torch.randint(1, V, shape or (B, T))


def padded() -> Tensor:
    mask = torch.ones(B, T, dtype=torch.long)
    mask[1, -2:] = 0
    return mask


def bert() -> nn.Module:
    config = transformers.BertConfig(
        vocab_size=V,
        hidden_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=12,
        max_position_embeddings=8,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    return transformers.BertForMaskedLM(config)


def gpt2() -> nn.Module:
    config = transformers.GPT2Config(
        vocab_size=V, n_positions=8, n_embd=8, n_layer=2, n_head=2, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0
    )
    return transformers.GPT2LMHeadModel(config)


def llama() -> nn.Module:
    config = transformers.LlamaConfig(
        vocab_size=V,
        hidden_size=8,
        intermediate_size=12,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=8,
    )
    return transformers.LlamaForCausalLM(config)


def t5() -> nn.Module:
    config = transformers.T5Config(
        vocab_size=V, d_model=8, d_kv=4, d_ff=12, num_layers=2, num_heads=2, dropout_rate=0.0, decoder_start_token_id=0
    )
    return transformers.T5ForConditionalGeneration(config)


def vit() -> nn.Module:
    config = transformers.ViTConfig(
        hidden_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=12,
        image_size=8,
        patch_size=4,
        num_labels=3,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    return transformers.ViTForImageClassification(config)


def next_token(ids: Tensor, **options: Tensor) -> Callable[[nn.Module], Tensor]:
    def loss(model: nn.Module) -> Tensor:
        logits = model(input_ids=ids, **options).logits
        return functional.cross_entropy(logits[:, :-1].transpose(1, 2), ids[:, 1:], reduction="none").sum(1)

    return loss


def image(model: nn.Module) -> Tensor:
    torch.manual_seed(0)
    logits = model(pixel_values=torch.randn(B, 3, 8, 8).double()).logits
    return functional.cross_entropy(logits, torch.tensor([0, 2, 1]), reduction="none")


def prepared(build: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(4)
    return build().double().train()


def test_bert() -> None:
    loss = next_token(tokens(), attention_mask=padded())
    assert_equals_loop(prepared(bert), loss, [["bert.encoder.layer.0"], [""]], examples=B)


def test_gpt2_with_tied_head() -> None:
    assert_equals_loop(prepared(gpt2), next_token(tokens()), [["transformer.h.0"], [""]], examples=B)


def test_llama() -> None:
    loss = next_token(tokens())
    operated = assert_equals_loop(prepared(llama), loss, [["model.layers.0"], [""]], examples=B, tolerance=SINGLE)
    assert operated.slow == ()


def test_vit_with_class_token_and_positions() -> None:
    assert_equals_loop(prepared(vit), image, [["vit.embeddings"], [""]], examples=B)


def test_t5_with_relative_positions() -> None:
    ids = tokens()
    loss = next_token(ids, decoder_input_ids=ids)
    assert_equals_loop(prepared(t5), loss, [["encoder."], [""]], examples=B, tolerance=SINGLE, bitwise=False)


def test_as_many_tokens_as_examples() -> None:
    ids = tokens(T, T)
    for build in (gpt2, llama):
        assert_equals_loop(prepared(build), next_token(ids), [[""]], examples=T, tolerance=SINGLE)


@pytest.mark.parametrize("build", [gpt2, llama])
def test_gradient_checkpointing(build: Callable[[], nn.Module]) -> None:
    model = prepared(build)
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable({"use_reentrant": False})
    groups = [["model.layers.0", "transformer.h.0"], [""]]
    assert_equals_loop(model, next_token(tokens()), groups, examples=B, tolerance=SINGLE)


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")  # peft asks for it
@pytest.mark.parametrize("dora", [False, True])
def test_lora(*, dora: bool) -> None:
    peft = pytest.importorskip("peft")

    def build() -> nn.Module:
        config = peft.LoraConfig(
            r=2, lora_alpha=4, target_modules=["q_proj", "v_proj", "down_proj"], lora_dropout=0.0, use_dora=dora
        )
        model = peft.get_peft_model(llama(), config)
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                nn.init.normal_(parameter)
        return model

    model = prepared(build)
    groups = [["base_model.model.model.layers.0"], [""]]
    assert_equals_loop(model, next_token(tokens()), groups, examples=B, tolerance=SINGLE, bitwise=not dora)
