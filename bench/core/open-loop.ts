import { type Process, startModule } from './process.ts'

/** What an open loop came to: requests were sent at fixed times, whether or not those before were answered. */
export interface OpenLoop {
  /** In milliseconds, from when a request should have been sent until it was answered. */
  p50: number
  p99: number
  max: number
  /** In milliseconds, how late 99 of 100 were sent at most: what loads adds so much. */
  late: number
  /** When each request should have been sent, by the clock that processes share, and its latency. */
  course: readonly (readonly [due: number, latency: number])[]
}

/** Starts what loads with an open loop, in a process of its own. */
export const startOpenLoop = (directory: string): Process => startModule('bench/load/open-loop.ts', directory, {})

/** Loads a URL. Each request is a POST with a key of its own; one that is not accepted ends the process that loads. */
export function openLoop(
  loader: Process,
  load: { url: string; perSecond: number; seconds: number },
): Promise<OpenLoop> {
  loader.send(load)
  return loader.hear<OpenLoop>()
}
