import { type MetricValues, metricsText, sumMetrics } from '../../primitives/metrics-registry.ts'

/** The metrics of several processes, summed. */
export class GroupMetrics {
  /** The last metrics of each process that runs, by its process id. */
  readonly #last = new Map<number, MetricValues[]>()
  /** What the processes that have ended had counted. Without it, the sums would decrease. */
  #ended: MetricValues[] = []
  #restarts = 0

  countRestart(): void {
    this.#restarts += 1
  }

  /** Adds what a process that has ended had counted when the metrics were last read. */
  retire(pid: number): void {
    this.#ended = sumMetrics([this.#ended, this.#countsOf(pid)])
    this.#last.delete(pid)
  }

  /**
   * Returns the sum in Prometheus' text format.
   *
   * @param processes the running processes, with their metrics unless they did not answer
   */
  text(processes: ReadonlyMap<number, MetricValues[] | undefined>): Promise<string> {
    const current = Array.from(processes, ([pid, values]) => {
      if (!values) return this.#countsOf(pid)
      this.#last.set(pid, values)
      return values
    })
    const ready = [...processes.values()].filter(Boolean).length
    return metricsText(sumMetrics([...current, this.#ended, this.#ofGroup(ready)]))
  }

  /** Returns the counters and histograms, which never decrease. */
  #countsOf(pid: number): MetricValues[] {
    return this.#last.get(pid)?.filter(({ type }) => type !== 'gauge') ?? []
  }

  #ofGroup(ready: number): MetricValues[] {
    return [
      metric('gauge', 'accepted_processes_ready', 'Processes of this command that have started and answer', ready),
      metric(
        'counter',
        'accepted_process_restarts_total',
        'Processes that the primary process has started again after they ended unexpectedly',
        this.#restarts,
      ),
    ]
  }
}

const metric = (type: 'gauge' | 'counter', name: string, help: string, value: number): MetricValues => ({
  ...{ name, help, type, aggregator: 'sum' },
  values: [{ value, labels: {} }],
})
