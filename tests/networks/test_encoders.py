import huggingface_hub
import pytest
import timm
import torch
from huggingface_hub import constants
from safetensors.torch import save_file
from torch import nn

from jtr_lightning.errors import ConfigError
from jtr_lightning.networks import SMPNetwork
from jtr_lightning.networks.encoders import make_encoder
from jtr_lightning.tasks import Depth

TIMM = "tu-mobilenetv3_small_050"


def same_weights(first: nn.Module, second: nn.Module) -> bool:
    ours, theirs = first.state_dict(), second.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)


@pytest.fixture(scope="module")
def resnet():
    torch.manual_seed(1)
    return make_encoder("resnet18")


@pytest.fixture
def empty_cache(monkeypatch, tmp_path):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))


# Names


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("resnet19", "did you mean 'resnet18'"),
        ("mobilenetv3_small_050", "did you mean 'tu-mobilenetv3_small_050'"),
        ("tu-resnet10x", "did you mean 'tu-resnet10t'"),
        ("zzzzzz", "an encoder of segmentation-models-pytorch, such as 'resnet18', or 'tu-'"),
    ],
)
def test_an_unknown_encoder_is_refused_with_near_matches(name, hint):
    with pytest.raises(ConfigError, match=f"found '{name}': .*{hint}"):
        make_encoder(name)


def test_an_encoder_without_a_pyramid_of_features_is_refused():
    with pytest.raises(ConfigError, match="'tu-vit_tiny_patch16_224' cannot be used"):
        make_encoder("tu-vit_tiny_patch16_224")


def test_an_encoder_that_cannot_be_dilated_is_refused():
    with pytest.raises(ConfigError, match="cannot be used at an output stride of 16"):
        make_encoder("tu-edgenext_xx_small", output_stride=16)


# Weights from a file


@pytest.mark.parametrize("file", ["weights.pt", "weights.safetensors"])
def test_an_encoder_is_read_back_from_a_file(resnet, tmp_path, file):
    path = tmp_path / file
    if path.suffix == ".safetensors":
        save_file(resnet.state_dict(), path)
    else:
        torch.save(resnet.state_dict(), path)
    assert same_weights(make_encoder("resnet18", str(path)), resnet)


def test_a_torchvision_file_with_its_classifier_is_read(resnet, tmp_path):
    classifier = {"fc.weight": torch.zeros(1000, 512), "fc.bias": torch.zeros(1000)}
    torch.save({**resnet.state_dict(), **classifier}, tmp_path / "resnet18.pth")
    assert same_weights(make_encoder("resnet18", str(tmp_path / "resnet18.pth")), resnet)


@pytest.mark.parametrize(
    "prefix",
    ["network.encoder.", "encoder.", "module.encoder.", "_orig_mod.encoder.", "module._orig_mod.encoder."],
)
def test_the_encoder_of_a_checkpoint_is_taken_and_the_rest_left(resnet, tmp_path, prefix):
    state = {prefix + key: value for key, value in resnet.state_dict().items()}
    torch.save(
        {
            "state_dict": {**state, prefix.partition("encoder.")[0] + "head.weight": torch.zeros(3)},
            "epoch": 3,
        },
        tmp_path / "last.ckpt",
    )
    assert same_weights(make_encoder("resnet18", str(tmp_path / "last.ckpt")), resnet)


@pytest.mark.parametrize("name", [TIMM, "tu-convnext_atto"])
def test_a_timm_file_of_the_whole_classifier_is_read(tmp_path, name):
    classifier = timm.create_model(name.removeprefix("tu-"))
    save_file(classifier.state_dict(), tmp_path / "model.safetensors")
    encoder = make_encoder(name, str(tmp_path / "model.safetensors")).eval()
    image = torch.rand(1, 3, 64, 64)
    expected = classifier.eval().forward_intermediates(image, intermediates_only=True)
    torch.testing.assert_close(encoder(image)[-1], expected[-1])


def test_a_timm_encoder_is_read_back_from_a_file(tmp_path):
    encoder = make_encoder(TIMM)
    torch.save(encoder.state_dict(), tmp_path / "encoder.pt")
    assert same_weights(make_encoder(TIMM, str(tmp_path / "encoder.pt")), encoder)


@pytest.mark.parametrize("name", ["resnet34", "mobilenet_v2", TIMM])
def test_weights_of_another_encoder_are_refused(resnet, tmp_path, name):
    path = tmp_path / "resnet18.pt"
    torch.save(resnet.state_dict(), path)
    with pytest.raises(
        ConfigError, match=f"should be weights of the encoder '{name}'; those in '.*' do not fit it"
    ):
        make_encoder(name, str(path))


def test_a_tensor_of_another_shape_is_refused(resnet, tmp_path):
    state = {**resnet.state_dict(), "conv1.weight": torch.zeros(64, 1, 7, 7)}
    torch.save(state, tmp_path / "grey.pt")
    with pytest.raises(ConfigError, match=r"do not fit it: .*size mismatch for conv1\.weight"):
        make_encoder("resnet18", str(tmp_path / "grey.pt"))


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(
        ConfigError, match=r"found no file at '.*none\.pth'\. Give the path of one, .* or null"
    ):
        make_encoder("resnet18", str(tmp_path / "none.pth"))


@pytest.mark.parametrize("file", ["broken.pt", "broken.safetensors"])
def test_a_damaged_file_is_refused(tmp_path, file):
    (tmp_path / file).write_bytes(b"\x00\x01 not weights")
    with pytest.raises(ConfigError, match="could not be read"):
        make_encoder("resnet18", str(tmp_path / file))


def test_a_file_that_holds_objects_is_never_unpickled(tmp_path):
    torch.save(nn.Linear(2, 2), tmp_path / "module.pt")
    with pytest.raises(ConfigError, match="holds objects, which are never unpickled"):
        make_encoder("resnet18", str(tmp_path / "module.pt"))


@pytest.mark.parametrize("content", [{}, {"epoch": 3}, [1, 2]])
def test_a_file_without_tensors_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "empty.pt")
    with pytest.raises(ConfigError, match=r"should be a file of tensors by name; '.*' holds none"):
        make_encoder("resnet18", str(tmp_path / "empty.pt"))


# Weights from the hub


@pytest.mark.parametrize(
    ("name", "weights", "hint"),
    [
        ("resnet18", "imagnet", "did you mean 'imagenet'"),
        ("tu-resnet18", "a1_in", "did you mean 'a1_in1k'"),
        ("tu-mobilenetv3_small_050", "instagram", "known are|did you mean"),
    ],
)
def test_weights_that_nobody_published_are_refused(name, weights, hint):
    with pytest.raises(ConfigError, match=f"published weights of '{name}'; found '{weights}': .*({hint})"):
        make_encoder(name, weights)


@pytest.mark.parametrize("offline", [True, False])
@pytest.mark.parametrize(
    ("name", "repository"),
    [("resnet18", "smp-hub/resnet18.imagenet"), ("tu-resnet18", "timm/resnet18.a1_in1k")],
)
def test_without_a_network_one_sentence_says_what_to_do(empty_cache, monkeypatch, name, repository, offline):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
    for variable in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    with pytest.raises(
        ConfigError, match=f"should be downloaded from .*{repository}; that failed .* `encoder_weights`"
    ):
        make_encoder(name, "imagenet")


@pytest.mark.parametrize(
    ("name", "weights", "repository"),
    [
        ("resnet18", "imagenet", "smp-hub/resnet18.imagenet"),
        (TIMM, "imagenet", "timm/mobilenetv3_small_050.lamb_in1k"),
        (TIMM, "lamb_in1k", "timm/mobilenetv3_small_050.lamb_in1k"),
    ],
)
def test_published_weights_are_loaded_from_the_file_that_the_hub_gives(
    monkeypatch, tmp_path, resnet, name, weights, repository
):
    source = timm.create_model(name.removeprefix("tu-")) if name.startswith("tu-") else resnet
    save_file(source.state_dict(), tmp_path / "model.safetensors")
    asked = []

    def give(repo_id, filename, **kwargs):
        asked.append((repo_id, filename))
        return str(tmp_path / filename)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", give)
    encoder = make_encoder(name, weights)
    assert asked == [(repository, "model.safetensors")]
    expected = make_encoder(name, str(tmp_path / "model.safetensors"))
    assert same_weights(encoder, expected)


def test_a_network_starts_from_the_file_but_a_checkpoint_does_not_ask_for_it_again(resnet, tmp_path):
    torch.save(resnet.state_dict(), tmp_path / "encoder.pt")
    network = SMPNetwork(encoder_weights=str(tmp_path / "encoder.pt")).build({"depth": Depth()})
    assert same_weights(network.encoder, resnet)
    assert "encoder_weights" not in network.describe()["init_args"]
