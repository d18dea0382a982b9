"""What an export says of itself, which network it is of, and what it refuses."""

import dataclasses
import hashlib
import json
import logging
import shutil

import numpy as np
import pytest
from safetensors import numpy as safetensors

import nas_jax
from nas_jax import spaces
from nas_jax.exports import folder as folder_lib
from nas_jax.exports import forms, model
from nas_jax.spaces import arch_id
from nas_jax.spaces.chains import ChainSpace
from nas_jax.storage import json_files
from tests import launching
from tests.exports import finished
from tests.nn import test_layers  # noqa: F401
