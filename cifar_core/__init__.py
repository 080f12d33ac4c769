"""One training run of the recipe: data, model, schedule, loop, pictures. Knows nothing of Ray or searches."""
