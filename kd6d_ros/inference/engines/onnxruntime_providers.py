"""Execution providers of ONNX Runtime: which there are, and with which options they run what a bundle says."""

from __future__ import annotations

from typing import Any, Dict, List, Tuple

from kd6d_ros.errors import EngineError
from kd6d_ros.inference.engines.cache_folder import private_folder

CPU, CUDA, TENSORRT = 'CPUExecutionProvider', 'CUDAExecutionProvider', 'TensorrtExecutionProvider'
DEVICES = {CPU: 'CPU', CUDA: 'CUDA', TENSORRT: 'TensorRT provider'}

Provider = Tuple[str, Dict[str, str]]


def provider_list(runtime: Any, provider: str, precision: str) -> List[Provider]:
    """Providers for a session, the wanted one first; what it cannot run falls to the next.

    Raises:
        EngineError: this ONNX Runtime was built without the provider.
    """
    have = runtime.get_available_providers()
    if provider not in have:
        raise EngineError(
            f'this ONNX Runtime has no {provider} (it has {", ".join(have)}): install onnxruntime-gpu for this '
            'machine, see docs/jetson.md, or choose engine onnxruntime'
        )
    cpu: Provider = (CPU, {})
    if provider == CPU:
        return [cpu]
    # Without this, float32 would be TF32 on GPUs that have it; the option is there since 1.18.
    cuda: Provider = (CUDA, {'use_tf32': '0'} if version_of(runtime) >= (1, 18) else {})
    if provider == CUDA:
        return [cuda, cpu]
    options = {
        'trt_engine_cache_enable': '1',
        # Engines are code: ONNX Runtime reads whatever lies here, so nobody else may write to it.
        'trt_engine_cache_path': str(private_folder(private_folder() / 'onnxruntime')),
        'trt_fp16_enable': '1' if precision == 'fp16' else '0',
        'trt_int8_enable': '1' if precision == 'int8' else '0',
    }
    return [(TENSORRT, options), cuda, cpu] if CUDA in have else [(TENSORRT, options), cpu]


def version_of(runtime: Any) -> Tuple[int, int]:
    """Major and minor version of the ONNX Runtime module."""
    major, minor = runtime.__version__.split('.')[:2]
    return int(major), int(minor)
