"""The forms of an exported network as files of its folder: those that can be written."""

import functools
import logging
from pathlib import Path
from typing import Any

from nas_jax.data import augment
from nas_jax.exports import forms, plain, renaming
from nas_jax.exports.plain_terms import NoPlainForm
from nas_jax.exports.workdirs import Facts
from nas_jax.nn.network import Network
from nas_jax.storage import json_files

logger = logging.getLogger(__name__)

_INSTALL = {  # by form, what writes it
    forms.STABLEHLO: "pip install 'nas_jax[export]' writes it",
    forms.ONNX: "pip install 'nas_jax[onnx]' writes it",
}


class Written:
    """The forms of a network in a folder.

    Args:
      folder: is there.
      net: the network, with running statistics.
      variables: its params and batch_stats.
      facts: on its images.

    Attributes:
      network: the function of the network itself.
      reasons: by form, why it is not written.
    """

    def __init__(self, folder: Path, net: Network, variables: Any, facts: Facts):
        self._folder, self._net, self._variables, self._facts = folder, net, variables, facts
        prepare = functools.partial(augment.standardise, mean=facts.mean, std=facts.std)
        self._of = functools.partial(forms.of_network, net, prepare=prepare)
        self.network, self.reasons = self._of(variables), {}

    def write(self, about: str) -> None:
        """Write all forms that can be written, and log which cannot; `about` as of `plain.of`."""
        facts, folder = self._facts, self._folder
        try:
            given = plain.Inputs(facts.image_shape, facts.mean, facts.std, facts.class_names)
            made = plain.of(self._net, self._variables, given, about)
        except NoPlainForm as error:
            forms.save_params(folder / forms.PARAMS, renaming.flat(self._variables))
            self._write_stablehlo(self.network)
            self._leave_out(forms.PLAIN, f"the network has no plain form: {error}")
            self._leave_out(forms.ONNX, "it is made of the plain form")
            return
        forms.save_params(folder / forms.PARAMS, made.arrays)
        json_files.write_text(folder / forms.PLAIN, made.source)
        function = forms.read_plain(folder)
        self._write_stablehlo(function)
        self._write_onnx(function)

    def _write_stablehlo(self, function):
        if self._is_installed(forms.STABLEHLO, forms.has_stablehlo()):
            path = self._folder / forms.STABLEHLO
            forms.save_stablehlo(path, function, self._facts.image_shape)

    def _is_installed(self, name, is_there):
        if not is_there:
            self.reasons[name] = _INSTALL[name]
            logger.info("export without %s: %s", name, _INSTALL[name])
        return is_there

    def _write_onnx(self, function):
        if not self._is_installed(forms.ONNX, forms.has_onnx()):
            return
        try:
            forms.save_onnx(self._folder / forms.ONNX, function, self._facts.image_shape)
        except Exception as error:  # of a converter
            reason = " ".join(str(error).split())[:200]
            self._leave_out(forms.ONNX, f"jax2onnx fails: {type(error).__name__} {reason}")

    def _leave_out(self, name, reason):
        self.reasons[name] = reason
        logger.warning("export without %s: %s", name, reason)

    def functions(self) -> dict[str, forms.Logits]:
        """Read the forms back from their files."""
        readers = {
            forms.PLAIN: lambda: forms.read_plain(self._folder),
            forms.STABLEHLO: lambda: forms.read_stablehlo(self._folder / forms.STABLEHLO),
            forms.ONNX: lambda: forms.read_onnx(self._folder / forms.ONNX),
        }
        if forms.PLAIN in self.reasons:  # nothing else reads the arrays
            readers[forms.PARAMS] = lambda: self._of(forms.read_params(self._folder / forms.PARAMS))
        return {name: read() for name, read in readers.items() if name not in self.reasons}
