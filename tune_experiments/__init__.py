"""The search: Ray Tune trials of the `cifar_core` recipe, proposed by Optuna and stopped early by ASHA."""
