"""The check at the start of a training run: alone, and as a callback of stand-ins for the training frameworks."""

import pickle
import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch
from torch import nn

from autoinit import ArgumentError, AutoinitError, InitializationCheck, InitializationError
from tests.shared.models.rectified import WIDTH, build, build_well


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def test_the_check_stops_a_run_and_lets_a_good_one_pass():
    with pytest.raises(InitializationError, match=r"(?s)Sequential is not well initialized.*INI103 error: 0: "):
        InitializationCheck()(build())
    assert issubclass(InitializationError, AutoinitError)
    assert InitializationCheck(fail_level="warning", recipe="none")(build_well()).ok
    assert InitializationCheck(select=["INI0"])(build()).ok


def test_the_check_of_nothing_stops_a_run_too():
    with pytest.raises(InitializationError, match="nothing was checked"):
        InitializationCheck()(nn.ReLU())
    assert InitializationCheck(allow_empty=True)(nn.ReLU()).ok


def test_bad_options_are_refused_before_a_run():
    with pytest.raises(ArgumentError, match="fail_level='fatal': expected one of 'error', 'warning', 'info'"):
        InitializationCheck(fail_level="fatal")
    with pytest.raises(TypeError, match="tolerence"):
        InitializationCheck(tolerence=0.2)


class Shell(nn.Module):
    """Has no forward of its own, as a module for training often has not."""

    def __init__(self, net):
        super().__init__()
        self.net = net


def test_a_part_of_the_model_can_be_checked():
    check = InitializationCheck(submodule="net")
    assert check(Shell(build_well())).model == "Shell.net"
    assert check(nn.DataParallel(Shell(build_well()))).ok
    with pytest.raises(InitializationError, match=r"^Shell\.net is not well initialized"):
        check(Shell(build()))
    with pytest.raises(ArgumentError, match="submodule='backbone': Shell has no such module; its children are net"):
        InitializationCheck(submodule="backbone")(Shell(build()))


class Scaled(nn.Module):
    """A forward that needs two arguments, which cannot be guessed."""

    def __init__(self):
        super().__init__()
        self.net = build_well()

    def forward(self, x, lengths):
        return self.net(x[:, : lengths.shape[0]])


def test_example_inputs_are_given_or_those_of_a_lightning_module():
    declared = Scaled()
    declared.example_input_array = (torch.zeros(2, 300), torch.zeros(WIDTH))
    assert InitializationCheck()(declared).layers == 3
    assert InitializationCheck((torch.zeros(2, 300), torch.zeros(WIDTH)))(Scaled()).layers == 3


class Callback:
    """What the frameworks' base classes are, for all that matters here."""


@pytest.fixture(params=["lightning.pytorch", "pytorch_lightning"])
def lightning(request, monkeypatch):
    """One of the two Lightnings, and no other."""
    for name in ("lightning", "lightning.pytorch", "pytorch_lightning"):
        monkeypatch.setitem(sys.modules, name, None)
    framework = ModuleType(request.param)
    framework.Callback = Callback
    if "." in request.param:
        monkeypatch.setitem(sys.modules, "lightning", ModuleType("lightning"))
    monkeypatch.setitem(sys.modules, request.param, framework)
    return framework


def test_lightning_checks_at_the_start_of_a_fit(lightning):
    callback = InitializationCheck().lightning()
    assert isinstance(callback, lightning.Callback)
    start = SimpleNamespace(ckpt_path=None, global_step=0)
    with pytest.raises(InitializationError, match="INI103"):
        callback.on_fit_start(start, build())
    callback.on_fit_start(start, build_well())


@pytest.mark.parametrize(("ckpt_path", "global_step"), [("last.ckpt", 0), (None, 10)])
def test_lightning_does_not_check_a_fit_that_goes_on(lightning, ckpt_path, global_step):
    trainer = SimpleNamespace(ckpt_path=ckpt_path, global_step=global_step)
    InitializationCheck().lightning().on_fit_start(trainer, build())


def test_a_lightning_callback_goes_to_other_processes(lightning):
    callback = pickle.loads(pickle.dumps(InitializationCheck(submodule="net", tolerance=0.2).lightning()))
    with pytest.raises(InitializationError, match=r"Shell\.net is not"):
        callback.on_fit_start(SimpleNamespace(ckpt_path=None, global_step=0), Shell(build()))


def test_the_lightning_in_use_is_taken_where_both_are_installed(monkeypatch):
    other = ModuleType("pytorch_lightning")
    other.Callback = type("Callback", (), {})
    monkeypatch.delitem(sys.modules, "lightning.pytorch", raising=False)
    monkeypatch.setitem(sys.modules, "pytorch_lightning", other)
    assert isinstance(InitializationCheck().lightning(), other.Callback)


def test_a_framework_that_is_missing(monkeypatch):
    for name in ("lightning", "lightning.pytorch", "pytorch_lightning", "transformers"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ArgumentError, match="lightning is not installed: pip install lightning"):
        InitializationCheck().lightning()
    with pytest.raises(ArgumentError, match="transformers is not installed: pip install transformers"):
        InitializationCheck().transformers()


def test_a_framework_that_lacks_a_module_of_its_own_is_not_called_missing(tmp_path, monkeypatch):
    (tmp_path / "pytorch_lightning.py").write_text("import torchmetrics_of_no_one\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(sys.modules, "lightning", None)
    monkeypatch.setitem(sys.modules, "lightning.pytorch", None)
    monkeypatch.delitem(sys.modules, "pytorch_lightning", raising=False)
    with pytest.raises(ModuleNotFoundError, match="torchmetrics_of_no_one"):
        InitializationCheck().lightning()


def test_transformers_checks_at_the_start_of_a_run(monkeypatch):
    framework = ModuleType("transformers")
    framework.TrainerCallback = Callback
    monkeypatch.setitem(sys.modules, "transformers", framework)
    callback = pickle.loads(pickle.dumps(InitializationCheck().transformers()))
    assert isinstance(callback, Callback)

    def begin(step, model):
        callback.on_train_begin(None, SimpleNamespace(global_step=step), None, model=model, optimizer=None)

    with pytest.raises(InitializationError, match="INI103"):
        begin(0, build())
    begin(0, build_well())
    begin(10, build())


def test_the_callback_handler_of_transformers_calls_it():
    library = pytest.importorskip("transformers.trainer_callback")
    callback = InitializationCheck().transformers()
    control = library.TrainerControl()

    def handler(model):
        return library.CallbackHandler([library.DefaultFlowCallback(), callback], model, None, None, None)

    assert isinstance(callback, library.TrainerCallback)
    bad, good, state = handler(build()), handler(build_well()), library.TrainerState()
    with pytest.raises(InitializationError, match="INI103"):
        bad.on_train_begin(None, state, control)
    assert good.on_train_begin(None, state, control) is control
    assert bad.on_train_begin(None, library.TrainerState(global_step=10), control) is control
