import { type Process, startModule } from './process.ts'

/** The result of an open loop, which sends requests at fixed times, even if earlier requests have no response yet. */
export interface OpenLoop {
  /** Milliseconds from the due time of a request to its response. */
  p50: number
  p99: number
  max: number
  /** How late the load generator sent the request, in milliseconds (p99). The latency includes this delay. */
  late: number
  /** One entry per request: its due time, which is a value of `now` in clock.ts, and its latency. */
  requests: readonly (readonly [due: number, latency: number])[]
}

/** Starts the load generator in a process of its own. */
export const startOpenLoop = (directory: string): Process => startModule('bench/load/open-loop.ts', directory, {})

/** Sends POSTs, each with its own idempotency key. The load generator exits if a response is not a 202. */
export function openLoop(
  loader: Process,
  load: { url: string; perSecond: number; seconds: number },
): Promise<OpenLoop> {
  loader.send(load)
  return loader.receive<OpenLoop>()
}
