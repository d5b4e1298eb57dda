"""People: jointed bodies with clothes, hair and what they carry, as meshes for both cameras."""
