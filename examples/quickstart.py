"""Train, draw a figure and test a difference: ``python examples/quickstart.py [RESULTS]``.

The question is whether moving the subspace pays: SSVI moves it, while Static VI keeps the active weights with
which it started. Finished runs are not repeated, so a second call trains nothing.
"""

import sys

import bench


def main(results="results"):
    plan = bench.plan(
        "sparsity_sweep", where="sparsity=0|0.9, method=ssvi|static_vi|dense_vi", seeds="0-4", epochs=3
    )
    runs = plan.run(results)["runs"]

    chart = bench.figures.tradeoff(runs, score="nll")
    chart.figure.write_html(f"{results}/tradeoff.html")

    configurations = runs.groupby("method", observed=True)["config_id"].first()
    found = bench.statistics.paired(runs, "nll", references=configurations["static_vi"])
    row = found.set_index("config_id").loc[configurations["ssvi"]]
    verdict = "can be told apart" if row["p_holm"] < bench.statistics.ALPHA else "cannot be told apart"
    print(f"NLL of SSVI less that of Static VI: {row['difference']:+.3f} ± {row['half_width']:.3f} nats")
    print(f"over {row['n']} seeds, paired; p = {row['p_holm']:.2g} (Holm): at 5 % they {verdict}")


if __name__ == "__main__":
    main(*sys.argv[1:])
