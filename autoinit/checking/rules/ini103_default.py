"""INI103: the framework's default."""

from __future__ import annotations

from autoinit.checking._wording import feeds
from autoinit.checking.scale.cases import Case
from autoinit.checking.scale.declaring import rule_of_scale
from autoinit.checking.scale.deviations import Deviation


def _is_default(case: Case) -> int | None:
    return 0 if case.recipe.kind == "default" else None


def _is_true_default(case: Case) -> int | None:
    return _is_default(case) if case.recipe.fans in ("", "true") else None


@rule_of_scale("INI103", "framework default left in place", precedence=20, verdict=_is_default, strays=_is_true_default)
def default(deviation: Deviation) -> str:
    """The weight is as torch's constructor left it, and its place calls for something else.

    ## What it is

    The statistics (or the record of the last write) are those of torch's own `reset_parameters`. For linear layers and
    convolutions that is `kaiming_uniform_(a=sqrt(5))`: std 1 / sqrt(3 fan_in), whatever follows.

    ## Why it matters

    Before a ReLU the signal needs sqrt(2 / fan_in), 2.4 times as much: each layer keeps a sixth of the signal's
    power. The default is a left-over of Lua Torch, not a choice. Often it stands where an initialisation was meant to
    be: the loop over modules missed the class, the name or the branch.

    ## Example

        for module in model.modules():
            if isinstance(module, nn.Conv2d):     # Conv3d, Linear and the others keep the default
                nn.init.kaiming_normal_(module.weight)

    ## What to do

        autoinit(model)                           # or, for one layer, the line that the finding gives

    If the default is meant, declare it: `recipe = "torch"` in `[tool.autoinit]`.

    ## References

    He et al. 2015, eq. 10; pytorch#15314, #18182, #129302.
    """
    return f"The layer feeds {feeds(deviation.part)}; the weight is {deviation.produced}, left in place."
