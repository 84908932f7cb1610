import { resolve as resolvePath } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import type { EmbeddedPostgres } from '../embedded-postgres/server.ts'
import type { Settings } from '../settings.ts'
import { localUrl } from './local-url.ts'

const readyTimeoutMs = 60_000
const readyRequestTimeoutMs = 5_000

export const notReady = (name: string): string =>
  `The ${name} process was not ready within ${readyTimeoutMs / 1000} s. Its output is above.`

/**
 * Waits until a process answers that it is ready.
 *
 * @param urls the addresses on which it answers
 * @returns true if it is ready, false after the timeout, undefined if it has `ended` first
 */
export async function waitUntilReady(urls: readonly string[], ended: Promise<unknown>): Promise<boolean | undefined> {
  const timeout = AbortSignal.timeout(readyTimeoutMs)
  for (;;) {
    const areReady = await Promise.race([Promise.all(urls.map(isReady)), ended.then(() => undefined)])
    if (!areReady) return undefined
    if (areReady.every(Boolean)) return true
    if (timeout.aborted) return false
    await delay(50)
  }
}

async function isReady(url: string): Promise<boolean> {
  try {
    const response = await fetch(`${url}/health/ready`, { signal: AbortSignal.timeout(readyRequestTimeoutMs) })
    await response.body?.cancel()
    return response.ok
  } catch {
    return false
  }
}

/** Formats the addresses of the API, the worker and Postgres. */
export function formatAddresses(settings: Settings, postgres: EmbeddedPostgres | undefined): string {
  const api = localUrl(settings)
  const lines = [
    ['API', api],
    ['Docs', `${api}/docs`],
    ['Worker', `${localUrl(settings, settings.WORKER_PORT)}/health/ready`],
    ...(postgres ? postgresAddresses(settings, postgres) : []),
  ]
  return `\n${lines.map(([name, value]) => `  ${name?.padEnd(9)} ${value}`).join('\n')}\n\n  Ctrl-C stops everything.\n`
}

function postgresAddresses({ DATA_DIR }: Settings, { url, dataDir, logFile }: EmbeddedPostgres): string[][] {
  const configured = resolvePath(DATA_DIR)
  const reason = dataDir === configured ? '' : ` (the user postgres has no access to ${configured})`
  return [
    ['Postgres', url],
    ['Log', logFile],
    ['Data', `${dataDir}${reason}`],
  ]
}
