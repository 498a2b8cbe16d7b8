"""The benchmarks: what one machine makes of this bridge, beside what was aimed at.

    workload ─▶ offer (process) ─▶ tickbridge run (process) ─▶ Kafka, Redis ─▶ listen (processes)
                      │                      │                                      │
                      └── offered            └── /metrics                           └── arrivals
                                             ▼
    scenarios ─▶ measure: a timeline ─▶ statistics ─▶ results.json ─▶ report, plots, compare

Every figure is measured from outside, on the processes a user would start; the stages alone
(`stages`) are measured in a loop inside. Nothing here knows how fast is fast enough but `figures`.
"""
