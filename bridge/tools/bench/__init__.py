"""The benchmarks: measure the bridge on one machine, and compare the figures with their targets.

    workload ─▶ load_generator ─▶ tickbridge run ─▶ Kafka, Redis ─▶ listen     (all processes)
                      │                  │                              │
                      └── offered        └── /metrics                   └── arrivals
                                         ▼
    scenarios ─▶ measure: a timeline ─▶ statistics ─▶ results.json ─▶ report, plots, compare

Every figure is measured from outside, on the processes that a user would start. Only the stages
(`stages`) are measured in a loop inside one process. Only `figures` knows the targets.
"""
