"""GLSL sources. One vertex stage serves all passes; matrices map object -> camera frame -> clip space."""

from __future__ import annotations

VERTEX = """
#version 330
uniform mat4 cam_from_obj;
uniform mat4 clip_from_cam;
uniform vec3 scale;
in vec3 in_position;
#ifdef SHADED
uniform mat4 shadow_from_cam;
uniform float shadow_texel_m;
uniform vec3 key_direction;
uniform float uv_scale;
in vec3 in_normal;
in vec3 in_colour;
in vec2 in_uv;
out vec3 v_position;
out vec3 v_normal;
out vec3 v_colour;
out vec2 v_uv;
out vec3 v_shadow;
#endif
void main() {
    vec4 p = cam_from_obj * vec4(in_position * scale, 1.0);
    gl_Position = clip_from_cam * p;
#ifdef SHADED
    v_position = p.xyz;
    v_normal = mat3(cam_from_obj) * (in_normal / scale);
    v_colour = in_colour;
    v_uv = in_uv * uv_scale;
    vec3 n = normalize(v_normal);
    /* the receiver is moved along its normal, so that a surface does not shadow itself */
    float side = dot(n, key_direction) < 0.0 ? -1.0 : 1.0;
    v_shadow = (shadow_from_cam * vec4(p.xyz + n * side * shadow_texel_m * 1.5, 1.0)).xyz;
#endif
}
"""

DEPTH_ONLY = """
#version 330
void main() {}
"""

CHANNEL_MASK = """
#version 330
uniform vec4 channel;
out vec4 mask;
void main() { mask = channel; }
"""

SHADED = """
#version 330
uniform float item_id;
uniform sampler2D base_texture;
uniform sampler2DShadow shadow_map;
uniform mat3 colour_matrix;
uniform vec3 colour_offset;
uniform float roughness;
uniform float metallic;
uniform float specular;
uniform vec4 light_vector[LIGHTS + 1];   /* w = 1: position, w = 0: direction */
uniform vec4 light_colour[LIGHTS + 1];   /* w = squared reference distance */
uniform vec3 sky;
uniform vec3 ground;
uniform vec3 up;
uniform float shadow_strength;
uniform float shadow_radius;    /* in texture coordinates of the shadow map */
in vec3 v_position;
in vec3 v_normal;
in vec3 v_colour;
in vec2 v_uv;
in vec3 v_shadow;
layout(location = 0) out vec4 colour;
layout(location = 1) out vec2 id_depth;

vec3 linear(vec3 c) { return c * (c * (c * 0.305306011 + 0.682171111) + 0.012522878); }
vec3 encoded(vec3 x) {
    vec3 s1 = sqrt(clamp(x, 0.0, 1.0)); vec3 s2 = sqrt(s1); vec3 s3 = sqrt(s2);
    return 0.662002687 * s1 + 0.684122060 * s2 - 0.323583601 * s3 - 0.0225411470 * s1 * s1;
}
float lit() {
    vec2 r = vec2(shadow_radius, 0.4 * shadow_radius);
    return 0.25 * (texture(shadow_map, v_shadow + vec3(r.x, r.y, 0.0))
                 + texture(shadow_map, v_shadow + vec3(-r.y, r.x, 0.0))
                 + texture(shadow_map, v_shadow + vec3(-r.x, -r.y, 0.0))
                 + texture(shadow_map, v_shadow + vec3(r.y, -r.x, 0.0)));
}
void main() {
    vec3 base = linear(v_colour) * linear(texture(base_texture, v_uv).rgb);
    base = clamp(colour_matrix * base + colour_offset, 0.0, 1.0);
    vec3 v = normalize(-v_position);
    vec3 n = normalize(v_normal);
    float nv = dot(n, v);
    if (nv < 0.0) { n = -n; nv = -nv; }   /* scans have holes and flipped faces: shade both sides */
    nv = max(nv, 0.02);
    float a2 = roughness * roughness * roughness * roughness;
    float k = 0.5 * roughness * roughness;
    float view_term = 4.0 * (nv * (1.0 - k) + k);
    vec3 f0 = mix(vec3(0.04 * specular), base, metallic);
    vec3 diffuse = base * (1.0 - metallic);
    vec3 sum = vec3(0.0);
#if LIGHTS > 0
    float key = 1.0 - shadow_strength * (1.0 - lit());
    for (int i = 0; i < LIGHTS; ++i) {
        vec3 to_light = light_vector[i].xyz;
        float strength = 1.0;
        if (light_vector[i].w > 0.5) {
            to_light -= v_position;
            float inverse = inversesqrt(max(dot(to_light, to_light), 1e-3));
            strength = light_colour[i].w * inverse * inverse;
            to_light *= inverse;
        }
        float facing = dot(n, to_light);
        float lv = dot(to_light, v);
        if (i == 0) strength *= key;
        float nl = max(facing, 0.0);
        /* the half vector h = (l + v) / |l + v| enters through its dot products only */
        float inverse = inversesqrt(max(2.0 + 2.0 * lv, 1e-6));
        float nh = max((facing + nv) * inverse, 0.0);
        float d = nh * nh * (a2 - 1.0) + 1.0;
        /* GGX distribution times Smith-Schlick visibility; pi has moved into the light's unit */
        float glare = a2 / (d * d * (nl * (1.0 - k) + k) * view_term);
        float fr = 1.0 - (1.0 + lv) * inverse; float fr2 = fr * fr;
        vec3 f = f0 + (1.0 - f0) * (fr2 * fr2 * fr);
        sum += light_colour[i].rgb * (strength * nl) * (diffuse * (1.0 - f) + f * min(glare, 40.0));
    }
#endif
    vec3 ambient = mix(ground, sky, 0.5 + 0.5 * dot(n, up));
    vec3 mirror = reflect(-v, n);
    /* a rough mirror sees the average of the hemisphere, a smooth one its gradient */
    float t = clamp(0.5 + dot(mirror, up) * (1.6 - roughness), 0.0, 1.0);
    vec3 glossy = mix(ground, sky, t);
    float fr = 1.0 - nv; float fr2 = fr * fr;
    vec3 fresnel = f0 + max(vec3(1.0 - roughness) - f0, vec3(0.0)) * (fr2 * fr2 * fr);
    sum += ambient * diffuse + glossy * fresnel;
    colour = vec4(encoded(sum), 1.0);
    id_depth = vec2(item_id, v_position.z);
}
"""

BACKGROUND_VERTEX = """
#version 330
out vec2 v_uv;
void main() {
    vec2 corner = vec2((gl_VertexID << 1) & 2, gl_VertexID & 2);
    v_uv = corner;
    gl_Position = vec4(corner * 2.0 - 1.0, 0.9999999, 1.0);
}
"""

BACKGROUND = """
#version 330
uniform sampler2D image;
in vec2 v_uv;
layout(location = 0) out vec4 colour;
layout(location = 1) out vec2 id_depth;
void main() { colour = vec4(texture(image, v_uv).rgb, 1.0); id_depth = vec2(0.0); }
"""


def with_define(source: str, name: str, value: int = 1) -> str:
    """Insert a #define after the version line."""
    return source.replace('#version 330', f'#version 330\n#define {name} {value}', 1)
