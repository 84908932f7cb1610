import { execFile } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { install } from './install.ts'

/** What a closed loop came to: each connection sends its next request when the last one is answered. */
export interface ClosedLoop {
  perSecond: number
  /** In milliseconds. */
  p50: number
  p99: number
  /** What wrk itself has computed, in microseconds a request. */
  loaderCpu: number
}

/**
 * Loads a URL with wrk, in a process of its own. Each request is a POST with a key of its own.
 *
 * @throws Error when requests fail: what was measured then is something else
 */
export async function closedLoop(url: string, connections: number, seconds: number): Promise<ClosedLoop> {
  install('wrk', 'wrk')
  const script = join(import.meta.dirname, 'wrk.lua')
  const args = ['-t1', `-c${connections}`, `-d${seconds}s`, '--timeout', '10s', '-s', script, url]
  const { stdout } = await promisify(execFile)('wrk', [...args, '--', randomBytes(6).toString('hex')])
  const line = stdout.split('\n').find((text) => text.startsWith('JSON '))
  if (!line) throw new Error(`wrk answered ${stdout}`)
  const figures = JSON.parse(line.slice(5))
  if (figures.errors > 0) throw new Error(`${figures.errors} of ${figures.requests} requests to ${url} failed`)
  const { requests, p50, p99, cpu } = figures
  return { perSecond: requests / figures.seconds, p50, p99, loaderCpu: (cpu / requests) * 1e6 }
}
