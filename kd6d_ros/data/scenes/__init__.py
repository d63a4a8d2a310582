"""Random scenes: recipe, assets (objects, distractors, textures, backgrounds), placement, light."""
