import type { Settings } from '../config.ts'

/** Where a client on this machine finds what listens on every address, or on one. */
export function localUrl({ HOST, PORT }: Settings, port = PORT): string {
  const host = { '0.0.0.0': '127.0.0.1', '::': '::1' }[HOST] ?? HOST
  return `http://${host.includes(':') ? `[${host}]` : host}:${port}`
}
