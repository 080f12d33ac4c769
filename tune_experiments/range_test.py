def find_max_lr_range(experiment, plan, data):
    return (0.005,0.3)
