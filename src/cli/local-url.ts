import type { Settings } from '../settings.ts'

/** Returns the URL at which a server on HOST is reachable from this machine. */
export function localUrl({ HOST, PORT }: Settings, port = PORT): string {
  const host = { '0.0.0.0': '127.0.0.1', '::': '::1' }[HOST] ?? HOST
  return `http://${host.includes(':') ? `[${host}]` : host}:${port}`
}
