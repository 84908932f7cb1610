import { execFile } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { hasProgram, installPackage } from '../../test/support/debian-package.ts'

const requestTimeoutSeconds = 10

/** The result of a closed loop: each connection waits for a response before it sends its next request. */
export interface ClosedLoop {
  perSecond: number
  /** In milliseconds. */
  p50: number
  p99: number
  /** CPU time of wrk itself, in microseconds per request. */
  loaderCpu: number
}

/**
 * Sends POSTs with wrk, each with its own idempotency key.
 *
 * @param key the API key to send
 * @throws Error if a request fails, because the figures would then include failed requests
 */
export async function closedLoop(url: string, connections: number, seconds: number, key?: string): Promise<ClosedLoop> {
  installPackage('wrk', () => hasProgram('wrk'))
  const script = join(import.meta.dirname, 'wrk.lua')
  const args = ['-t1', `-c${connections}`, `-d${seconds}s`, '--timeout', `${requestTimeoutSeconds}s`, '-s', script, url]
  const { stdout } = await promisify(execFile)('wrk', [
    ...args,
    '--',
    randomBytes(6).toString('hex'),
    ...(key ? [key] : []),
  ])
  const line = stdout.split('\n').find((text) => text.startsWith('JSON '))
  if (!line) throw new Error(`wrk printed no figures: ${stdout}`)
  const figures = JSON.parse(line.slice(5))
  if (figures.errors > 0) throw new Error(`${figures.errors} of ${figures.requests} requests to ${url} failed`)
  const { requests, p50, p99, cpu } = figures
  return { perSecond: requests / figures.seconds, p50, p99, loaderCpu: (cpu / requests) * 1e6 }
}
