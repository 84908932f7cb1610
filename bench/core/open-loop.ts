import { type Process, startModule } from './process.ts'

/** The result of an open loop: requests are sent at fixed times, whether or not earlier ones have been answered. */
export interface OpenLoop {
  /** Milliseconds from when a request was due until it was answered. */
  p50: number
  p99: number
  max: number
  /** Milliseconds by which the load generator itself sent late (p99). They are part of the latency. */
  late: number
  /** When each request was due, by the clock that processes share, and its latency. */
  requests: readonly (readonly [due: number, latency: number])[]
}

/** Starts the load generator in a process of its own. */
export const startOpenLoop = (directory: string): Process => startModule('bench/load/open-loop.ts', directory, {})

/** Sends POSTs, each with its own idempotency key. The load generator exits if one is not accepted. */
export function openLoop(
  loader: Process,
  load: { url: string; perSecond: number; seconds: number },
): Promise<OpenLoop> {
  loader.send(load)
  return loader.receive<OpenLoop>()
}
