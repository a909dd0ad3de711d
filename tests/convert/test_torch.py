"""PyTorch networks, each against its original on 1,000 random inputs."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from bcd_implicit import convert
from bcd_implicit.convert import from_torch


class Block(nn.Module):
    """A residual block with a projection where the shape changes."""

    def __init__(self, inputs, outputs, stride=1):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU()
        self.short = nn.Identity()
        if stride > 1 or inputs != outputs:
            self.short = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x):
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += self.short(x)
        return torch.relu(out)


class ResNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(2, 4, 3, 1, 1), nn.BatchNorm2d(4), nn.ReLU())
        self.blocks = nn.Sequential(Block(4, 4), Block(4, 6, 2), Block(6, 6))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(6, 3)

    def forward(self, x):
        x = torch.flatten(self.pool(self.blocks(self.stem(x))), 1)
        return self.head(x)


class Functional(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(8, 6), nn.Linear(6, 6)

    def forward(self, x):
        x = torch.tanh(self.a(x.view(x.size(0), -1).relu()))
        return torch.add(x, self.b(x).sigmoid())


class Size(nn.Module):
    """A layer may have the name of a method of tensors."""

    def __init__(self):
        super().__init__()
        self.size = nn.Linear(8, 3)

    def forward(self, x):
        return self.size(x)


class Doubled(nn.Module):
    def forward(self, x):
        x = x + x
        x += x
        return x


NETS = {
    "mlp": (lambda: nn.Sequential(nn.Linear(8, 6), nn.LeakyReLU(0.2), nn.Linear(6, 3)), (8,)),
    "linear": (lambda: nn.Sequential(nn.Linear(8, 2), nn.Linear(2, 8)), 8),
    "softmax": (
        lambda: nn.Sequential(
            nn.Flatten(), nn.Linear(8, 5), nn.Tanh(), nn.Linear(5, 4), nn.Softmax(1)
        ),
        (2, 2, 2),
    ),
    "normalised": (
        lambda: nn.Sequential(
            nn.Linear(8, 6),
            nn.BatchNorm1d(6),
            nn.Sigmoid(),
            nn.Dropout(),
            nn.BatchNorm1d(6, affine=False),
        ),
        (8,),
    ),
    "lenet": (
        lambda: nn.Sequential(
            nn.Conv2d(1, 3, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(3, 4, 3),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(16, 8),
            nn.ReLU(),
            nn.Linear(8, 3),
        ),
        (1, 12, 12),
    ),
    "average": (
        lambda: nn.Sequential(
            nn.Conv2d(1, 4, 3, padding="same", dilation=2),
            nn.Tanh(),
            nn.AvgPool2d(3, 2, 1),
            nn.Conv2d(4, 4, 3, groups=2, stride=2, padding="valid"),
            nn.Tanh(),
            nn.AvgPool2d((1, 2), count_include_pad=False),
        ),
        (1, 9, 10),
    ),
    "overlapping maxima": (
        lambda: nn.Sequential(
            nn.Conv2d(2, 2, 2), nn.MaxPool2d(3, 2, 1), nn.AvgPool2d(2, padding=1)
        ),
        (2, 8, 7),
    ),
    "block": (lambda: Block(2, 2), (2, 5, 5)),
    "resnet": (ResNet, (2, 8, 8)),
    "functional": (Functional, 8),
    "size": (Size, 8),
    "doubled": (Doubled, 3),
    "one layer": (lambda: nn.Linear(3, 2), np.int64(3)),
}


def prepared(make):
    """Return a network in double precision with running statistics that are not the default."""
    torch.manual_seed(0)
    net = make().double()
    for module in net.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2.0)
            if module.affine:
                module.weight.data.normal_()
                module.bias.data.normal_()
    return net.eval()


@pytest.mark.parametrize("name", NETS)
def test_networks(name):
    make, shape = NETS[name]
    net = prepared(make)
    model = from_torch(net, input_shape=shape)
    U = np.random.default_rng(0).standard_normal((1000, int(np.prod(shape))))
    with torch.no_grad():
        images = torch.from_numpy(U).reshape(1000, *np.atleast_1d(shape))
        expected = net(images).reshape(1000, -1).numpy()
    np.testing.assert_allclose(model.predict(U), expected, rtol=0.0, atol=1e-10)
    assert model.contraction_factor == 0.0
    A = model.A.tocoo()
    assert np.all(A.row < A.col)


def test_structure_is_sparse_and_precision_is_kept():
    make, shape = NETS["lenet"]
    model = from_torch(make(), input_shape=shape)
    assert model.A.dtype == np.float32
    assert model.A.nnz < 0.02 * model.n_states**2
    repeated = NETS["linear"][0]().double()
    assert from_torch(repeated, 8).B.nnz == 16  # through two identity states, not 8 x 8


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM])
def test_recurrent_networks(kind):
    torch.manual_seed(0)
    net = kind(3, 5, batch_first=True).double()
    W, V = net.weight_hh_l0.detach().numpy(), net.weight_ih_l0.detach().numpy()
    b = (net.bias_hh_l0 + net.bias_ih_l0).detach().numpy()
    model = (convert.rnn if kind is nn.RNN else convert.lstm)(W, V, b, 6)
    U = np.random.default_rng(0).standard_normal((1000, 18))
    with torch.no_grad():
        expected = net(torch.from_numpy(U).reshape(1000, 6, 3))[0].reshape(1000, -1).numpy()
    np.testing.assert_allclose(model.predict(U), expected, rtol=0.0, atol=1e-10)


class Branching(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


class Auxiliary(nn.Module):
    """It has one layer more while it is trained."""

    def __init__(self):
        super().__init__()
        self.first, self.more = nn.Linear(8, 8), nn.Linear(8, 8).eval()

    def forward(self, x):
        x = torch.tanh(self.first(x))
        return self.more(x) if self.training else x


class Twice(nn.Module):
    def forward(self, x):
        return x, x


class Scaled(nn.Module):
    def forward(self, x):
        return torch.add(x, torch.tanh(x), alpha=0.5)


class TwoInputs(nn.Module):
    def forward(self, x, y):
        return x + y


class InPlace(nn.Module):
    """What is added is read again after it has changed."""

    def __init__(self, kind):
        super().__init__()
        self.first, self.last = nn.Linear(8, 8), nn.Linear(8, 3)
        self.relu, self.kind = nn.ReLU(inplace=True), kind
        self.dropout, self.flatten = nn.Dropout(), nn.Flatten()

    def forward(self, x):
        h = self.first(x)
        if self.kind == "layer":
            return h + self.relu(h)
        if self.kind == "function":
            return h + torch.relu_(h)
        if self.kind == "view":
            return h + self.relu(self.flatten(self.dropout(h)))
        g = h
        g += x
        return self.last(h)


def hooked(kind):
    net = nn.Sequential(nn.Linear(3, 3))
    getattr(net[0], f"register_{kind}")(lambda layer, inputs, *_: 2.0 * inputs[0])
    return net


@pytest.mark.parametrize("kind", ["layer", "function", "view"])
def test_what_is_changed_in_place(kind):
    net = prepared(lambda: InPlace(kind))
    U = np.random.default_rng(0).standard_normal((50, 8))
    with torch.no_grad():
        expected = net(torch.from_numpy(U)).numpy()
    np.testing.assert_allclose(from_torch(net, input_shape=8).predict(U), expected, atol=1e-10)


def test_branches_on_training_are_those_of_predictions():
    net = prepared(Auxiliary)
    U = np.random.default_rng(0).standard_normal((50, 8))
    with torch.no_grad():
        expected = net(torch.from_numpy(U)).numpy()
    net.training = net.first.training = True
    np.testing.assert_allclose(from_torch(net, input_shape=8).predict(U), expected, atol=1e-10)
    assert [part.training for part in net.modules()] == [True, True, False]


@pytest.mark.parametrize(
    ("net", "shape", "message"),
    [
        (Scaled(), 3, "add is not supported"),
        (InPlace("sum"), 8, "the result of add is never used"),
        (TwoInputs(), 3, "must take one tensor; it also takes y"),
        (hooked("forward_hook"), 3, "layer 0 has hooks"),
        (hooked("forward_pre_hook"), 3, "layer 0 has hooks"),
        (nn.Linear(3, 3).half(), 3, "weight must be of float32 or float64"),
        (nn.Sequential(nn.Linear(8, 6), nn.GELU()), 8, r"layer 1 \(GELU\) is not supported; known"),
        (nn.Sequential(nn.Linear(8, 6), nn.Linear(5, 6)), 8, r"layer 1 \(Linear\) expects 5 feat"),
        (nn.Sequential(nn.Conv2d(3, 2, 3)), (1, 9, 9), r"layer 0 \(Conv2d\) expects 3 channels"),
        (nn.Sequential(nn.Conv2d(1, 2, 3)), 81, r"expects an image .*give input_shape="),
        (
            nn.Sequential(nn.Conv2d(1, 2, 2, padding="same")),
            (1, 9, 9),
            "padding='same' for an even",
        ),
        (
            nn.Sequential(nn.Conv2d(1, 2, 3, padding_mode="circular", padding=1)),
            (1, 9, 9),
            "circular",
        ),
        (nn.Sequential(nn.Conv2d(1, 2, 20)), (1, 9, 9), "larger than the image"),
        (nn.Sequential(nn.BatchNorm2d(3)), (1, 9, 9), "expects 3 channels"),
        (nn.Sequential(nn.BatchNorm1d(3)), (3, 9, 9), "expects 3 channels"),
        (nn.Sequential(nn.BatchNorm2d(3)), (3,), "expects 3 channels"),
        (nn.Sequential(nn.BatchNorm2d(1, track_running_stats=False)), (1, 9, 9), "no running stat"),
        (nn.Sequential(nn.MaxPool2d(2, ceil_mode=True)), (1, 9, 9), "ceil_mode"),
        (nn.Sequential(nn.MaxPool2d(2, 1, 1, dilation=3)), (1, 2, 2), "nothing but padding"),
        (nn.Sequential(nn.AvgPool2d(2, divisor_override=3)), (1, 9, 9), "divisor_override"),
        (nn.Sequential(nn.AdaptiveAvgPool2d(4)), (1, 9, 9), "does not divide"),
        (nn.Sequential(nn.Softmax(1)), (3, 9, 9), "only dim=1 of vectors"),
        (nn.Sequential(nn.Flatten(2)), (3, 9, 9), "flattens from 2"),
        (Branching(), 3, "cannot be traced"),
        (Twice(), 3, "must return one tensor"),
        (nn.Linear(3, 3), (3, 3), "input_shape must be"),
        (nn.Linear(3, 3), 0, "input_shape must be"),
        (nn.Linear(3, 3), 3.0, "input_shape must be"),
    ],
)
def test_what_cannot_be_converted_is_named(net, shape, message):
    with pytest.raises(ValueError, match=message):
        from_torch(net, input_shape=shape)


def test_what_is_no_network_is_refused():
    with pytest.raises(TypeError, match=r"net must be a torch\.nn\.Module; got OrderedDict"):
        from_torch(nn.Linear(3, 3).state_dict(), 3)


def test_sums_of_other_shapes_are_refused():
    class Wrong(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Linear(4, 3)

        def forward(self, x):
            return self.a(x) + x

    with pytest.raises(ValueError, match=r"add adds tensors of shapes \(3,\) and \(4,\)"):
        from_torch(Wrong(), 4)


def test_without_pytorch_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ImportError, match=r"pip install \.\[torch\]"):
        from_torch(None, 3)


def test_pytorch_is_imported_only_when_it_is_needed():
    code = "import sys; from bcd_implicit import convert; convert.rnn; assert 'torch' not in "
    code += "sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
