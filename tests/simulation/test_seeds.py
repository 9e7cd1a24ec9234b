def test_x(play_seed):
    import time

    from tests.simulation.simulation import InvariantBrokenError

    for seed in range(30):
        t = time.time()
        try:
            p = play_seed(seed)
            print(seed, len(p.trace), round(time.time() - t, 2), dict(p.happened))
        except InvariantBrokenError as e:
            print(seed, "BROKEN", str(e)[:600].split("again:")[0])
