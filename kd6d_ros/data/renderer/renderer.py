"""Render one image of a given scene, headless.

    renderer = Renderer(640, 480)
    frame = renderer.render(camera, [RenderItem(mesh, cam_from_obj, Material(roughness=0.4), obj_id=1)],
                            Lights((Light(direction, np.full(3, 2.0)),)), background=photo_rgb)
    frame.rgb, frame.depth, frame.ids
    mask = renderer.full_mask(camera, item)

Camera convention is OpenCV's: x right, y down, z forward, pixel centres at integers, K with any principal
point. Colour, depth and ids come from one pass with one sample in the pixel centre, so depth and ids are
exact and cost nothing; the sensor model's blur smooths the edges of the colour image (4 samples per pixel
cost 2.6 times the whole colour pass on Mesa). Meshes and textures stay on the device, found again by
identity: pass the same Mesh and texture arrays again rather than copies. Closed meshes are drawn without
their back faces.

Shading: Cook-Torrance (Walter et al. 2007, GGX) with Schlick's Fresnel and Smith-Schlick visibility.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from kd6d_ros.data.renderer import shaders
from kd6d_ros.data.renderer.context import open_context
from kd6d_ros.data.renderer.device_cache import DeviceCache
from kd6d_ros.data.renderer.projection import clip_from_camera, item_sphere, shadow_projection
from kd6d_ros.data.renderer.records import MAX_LIGHTS, Lights, RenderedFrame, RenderItem
from kd6d_ros.errors import CameraError, ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kd6d_ros.types import AnyArray, Camera, FloatArray, ImageArray

SHADOW_MAP_SIZE = 1024


class Renderer:
    """Owns one OpenGL context and its framebuffers; not thread safe."""

    def __init__(self, width: int, height: int, context: Any = None) -> None:
        """width, height [px] of every image.

        Raises:
            ConfigError: a size outside 16..8192.
            MissingDependencyError: no moderngl or no EGL device.
        """
        if not (16 <= width <= 8192 and 16 <= height <= 8192):
            raise ConfigError(f'image size {width}x{height}: each side must be 16..8192 px')
        self.width = width
        self.height = height
        self.context = context or open_context()
        with self.context:
            self.context.front_face = 'cw'  # rows run downwards, which turns the faces' sense around
            self._cache = DeviceCache(self.context)
            self._build_programs()
            self._build_framebuffers()

    @property
    def device(self) -> str:
        """Name of the device that renders, e.g. 'llvmpipe (LLVM 15.0.6, 256 bits)'."""
        return str(self.context.info['GL_RENDERER'])

    def render(
        self,
        camera: Camera,
        items: Sequence[RenderItem],
        lights: Lights,
        background: ImageArray | None = None,
    ) -> RenderedFrame:
        """Render `items` before `background` (H, W, 3) uint8 sRGB (None: black) as `camera` sees them.

        Raises:
            CameraError: distorted camera, or a size other than the renderer's.
        """
        clip = self._clip(camera)
        # near things first, wide grounds last: what is hidden already is not shaded
        ordered = sorted(items, key=lambda item: (not item.casts_shadow, float(item.cam_from_obj.translation[2])))
        with self.context:  # makes it the current one, as there may be other renderers
            shadow = self._shadow_pass(ordered, lights)
            self._colour_pass(ordered, clip, lights, shadow, background)
            return self._read_frame()

    def full_mask(self, camera: Camera, item: RenderItem) -> AnyArray:
        """Pixels the item alone would cover: (H, W) bool."""
        return self.full_masks(camera, [item])[0]

    def full_masks(self, camera: Camera, items: Sequence[RenderItem]) -> list[AnyArray]:
        """Masks (H, W) bool of each item drawn alone; four items share one pass and one readback."""
        clip = self._clip(camera)
        with self.context:
            return self._mask_pass(clip, items)

    def _mask_pass(self, clip: bytes, items: Sequence[RenderItem]) -> list[AnyArray]:
        import moderngl

        context = self.context
        program = self._mask_program
        masks: list[AnyArray] = []
        self._mask_buffer.use()
        context.disable(moderngl.DEPTH_TEST)
        context.enable(moderngl.BLEND)
        context.blend_equation = moderngl.MAX
        program['clip_from_cam'].write(clip)
        for start in range(0, len(items), 4):
            group = items[start : start + 4]
            self._mask_buffer.clear()
            for channel, item in enumerate(group):
                program['channel'].value = tuple(float(channel == k) for k in range(4))
                self._draw(program, item)
            packed = np.frombuffer(self._mask_buffer.read(components=4), np.uint8)
            packed = packed.reshape(self.height, self.width, 4)
            masks.extend(packed[..., channel] > 0 for channel in range(len(group)))
        context.blend_equation = moderngl.FUNC_ADD
        context.disable(moderngl.BLEND)
        return masks

    def release(self) -> None:
        """Free the context and all that lives in it."""
        self.context.release()

    def _clip(self, camera: Camera) -> bytes:
        if camera.model != 'none':
            raise CameraError(f'the renderer draws undistorted images: camera model {camera.model!r}, not none')
        if (camera.width, camera.height) != (self.width, self.height):
            raise CameraError(
                f'camera of {camera.width}x{camera.height} px in a renderer of {self.width}x{self.height} px'
            )
        return clip_from_camera(camera.matrix, self.width, self.height).T.astype('f4').tobytes()

    def _build_programs(self) -> None:
        make = self.context.program
        self._depth_program = make(vertex_shader=shaders.VERTEX, fragment_shader=shaders.DEPTH_ONLY)
        self._mask_program = make(vertex_shader=shaders.VERTEX, fragment_shader=shaders.CHANNEL_MASK)
        self._shaded_programs: dict[int, Any] = {}
        background = make(vertex_shader=shaders.BACKGROUND_VERTEX, fragment_shader=shaders.BACKGROUND)
        self._background_quad = self.context.vertex_array(background, [])

    def _shaded_program(self, lights: int) -> Any:
        """The shader for so many lights: a fixed count runs a third faster than a loop over a uniform one."""
        if lights not in self._shaded_programs:
            program = self.context.program(
                vertex_shader=shaders.with_define(shaders.VERTEX, 'SHADED'),
                fragment_shader=shaders.with_define(shaders.SHADED, 'LIGHTS', lights),
            )
            program['base_texture'].value = 0
            if 'shadow_map' in program:
                program['shadow_map'].value = 1
            self._shaded_programs[lights] = program
        return self._shaded_programs[lights]

    def _build_framebuffers(self) -> None:
        import moderngl

        context = self.context
        size = (self.width, self.height)
        self._frame = context.framebuffer(
            [context.renderbuffer(size, 4), context.renderbuffer(size, 2, dtype='f4')],
            context.depth_renderbuffer(size),
        )
        self._mask_buffer = context.framebuffer(context.renderbuffer(size, 4))
        self._shadow_map = context.depth_texture((SHADOW_MAP_SIZE, SHADOW_MAP_SIZE))
        self._shadow_map.compare_func = '<='
        self._shadow_map.filter = (moderngl.LINEAR, moderngl.LINEAR)
        self._shadow_map.repeat_x = self._shadow_map.repeat_y = False
        self._shadow_buffer = context.framebuffer(depth_attachment=self._shadow_map)
        self._background = context.texture(size, 3, alignment=1)
        self._background.filter = (moderngl.NEAREST, moderngl.NEAREST)

    def _draw(self, program: Any, item: RenderItem) -> None:
        import moderngl

        if self._cache.closed(item.mesh):
            self.context.enable(moderngl.CULL_FACE)
        else:
            self.context.disable(moderngl.CULL_FACE)
        program['cam_from_obj'].write(item.cam_from_obj.matrix().T.astype('f4').tobytes())
        program['scale'].value = item.scale
        self._cache.vertex_array(program, item.mesh, item.material.ignore_vertex_colours).render()

    def _shadow_pass(self, items: Sequence[RenderItem], lights: Lights) -> tuple[FloatArray, float]:
        """Fill the shadow map of the key light; return (shadow_from_cam (4, 4), metres per texel)."""
        import moderngl

        context = self.context
        self._shadow_buffer.use()
        self._shadow_buffer.clear(depth=1.0)
        casters = [item for item in items if item.casts_shadow]
        if not (lights.shadows and lights.lights and casters) or lights.lights[0].point:
            return np.zeros((4, 4)), 0.0
        spheres = [item_sphere(item, self._cache.bounds(item.mesh)) for item in casters]
        projection, texel = shadow_projection(spheres, lights.lights[0].vector, SHADOW_MAP_SIZE)
        context.enable_only(moderngl.DEPTH_TEST)
        context.front_face = 'ccw'
        self._depth_program['clip_from_cam'].write(projection.T.astype('f4').tobytes())
        for item in casters:
            self._draw(self._depth_program, item)
        context.front_face = 'cw'
        bias = np.diag([0.5, 0.5, 0.5, 1.0])
        bias[:3, 3] = 0.5
        return bias @ projection, texel

    def _read_frame(self) -> RenderedFrame:
        shape = (self.height, self.width)
        rgb = np.frombuffer(self._frame.read(components=3, alignment=1), np.uint8).reshape(*shape, 3)
        packed = np.frombuffer(self._frame.read(components=2, attachment=1, dtype='f4'), np.float32)
        packed = packed.reshape(*shape, 2)
        return RenderedFrame(rgb, np.ascontiguousarray(packed[..., 1]), packed[..., 0].astype(np.uint16))

    def _colour_pass(
        self,
        items: Sequence[RenderItem],
        clip: bytes,
        lights: Lights,
        shadow: tuple[FloatArray, float],
        background: ImageArray | None,
    ) -> None:
        import moderngl

        context = self.context
        program = self._shaded_program(min(len(lights.lights), MAX_LIGHTS))
        self._frame.use()
        self._frame.clear(0.0, 0.0, 0.0, 0.0, depth=1.0)
        context.enable_only(moderngl.DEPTH_TEST)
        program['clip_from_cam'].write(clip)
        _set_lights(program, lights, *shadow)
        self._shadow_map.use(1)
        for item in items:
            material = item.material
            program['item_id'].value = float(item.obj_id)
            program['colour_matrix'].write(np.asarray(material.colour_matrix, 'f4').T.tobytes())
            program['colour_offset'].value = tuple(float(x) for x in material.colour_offset)
            program['roughness'].value = material.roughness
            program['metallic'].value = material.metallic
            program['specular'].value = material.specular
            program['uv_scale'].value = material.uv_scale
            if material.texture is not None:
                self._cache.texture(material.texture).use(0)
            else:
                self._cache.texture(item.mesh.texture, atlas=True).use(0)
            self._draw(program, item)
        context.disable(moderngl.CULL_FACE)
        if background is not None:
            self._draw_background(background)

    def _draw_background(self, background: ImageArray) -> None:
        if background.shape != (self.height, self.width, 3) or background.dtype != np.uint8:
            raise ConfigError(
                f'background of shape {background.shape} {background.dtype}: '
                f'expected ({self.height}, {self.width}, 3) uint8'
            )
        self._background.write(np.ascontiguousarray(background).tobytes())
        self._background.use(0)
        self._background_quad.render(vertices=3)


def _set_lights(program: Any, lights: Lights, shadow_from_cam: FloatArray, texel: float) -> None:
    used = lights.lights[:MAX_LIGHTS]
    key = used[0].vector if used and not used[0].point else (0.0, 0.0, 0.0)
    values: dict[str, AnyArray | float] = {
        'sky': np.asarray(lights.sky),
        'ground': np.asarray(lights.ground),
        'up': np.asarray(lights.up),
        'key_direction': np.asarray(key),
        'shadow_from_cam': shadow_from_cam.T,
        'shadow_texel_m': texel,
        'shadow_strength': lights.shadow_strength if texel else 0.0,
        'shadow_radius': lights.softness_px / SHADOW_MAP_SIZE,
        'light_vector': np.array([[*light.vector, float(light.point)] for light in used] + [[0.0] * 4]),
        'light_colour': np.array([[*light.colour, light.reference_m**2] for light in used] + [[0.0] * 4]),
    }
    for name, value in values.items():
        if name in program:  # without lights the compiler drops what they need
            member = program[name]
            member.write(np.asarray(value, 'f4').tobytes()[: member.array_length * member.dimension * 4])
