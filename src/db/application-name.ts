import { hostname } from 'node:os'

/** Postgres cuts longer names, in bytes. */
const maxNameLength = 63
/** Room for what a process appends to its name, for example ` control`. */
const suffixLength = 8

/** Returns the name by which `pg_stat_activity` shows the connections of this process: `accepted worker host:pid`. */
export function applicationName(kind: 'api' | 'worker'): string {
  const [before, after] = [`accepted ${kind} `, `:${process.pid}`]
  return before + hostname().slice(0, maxNameLength - suffixLength - before.length - after.length) + after
}

/** Removes the application name from a URL, because a name in the URL would replace ours. */
export const withoutApplicationName = (url: string): string =>
  url.replace(/(?<=[?&])application_name=[^&#]*&?/g, '').replace(/[?&](?=#|$)/, '')
