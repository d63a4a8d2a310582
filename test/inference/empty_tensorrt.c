/* Stands for libnvinfer, libnvinfer_plugin and libnvonnxparser, which pip cannot install here and which need a GPU
 * anyway: with it the Python bindings of TensorRT 10 and 11 load, and test_tensorrt_names.py looks up names and
 * signatures in them. Nothing can be built or run with it. Made by `make test-tensorrt`. */

#define EMPTY(name) void *name(void) { return 0; }

EMPTY(createInferBuilder_INTERNAL)
EMPTY(createInferRefitter_INTERNAL)
EMPTY(createInferRuntime_INTERNAL)
EMPTY(createNvOnnxParserRefitter_INTERNAL)
EMPTY(createNvOnnxParser_INTERNAL)
EMPTY(getBuilderPluginRegistry)
EMPTY(getPluginRegistry)

int getNvOnnxParserVersion(void) { return 0; }

int initLibNvInferPlugins(void *logger, const char *space) { return logger != 0 && space != 0; }
