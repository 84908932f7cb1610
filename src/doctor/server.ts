import { sql } from 'kysely'
import type { Check, Finding } from './check.ts'
import { findingsOf } from './check.ts'

const oldestMajor = 15
const newestMajor = 18

/** @param number as in `server_version_num`: 180001 is 18.1 */
export function judgeVersion(number: number, version: string): Finding[] {
  const major = Math.floor(number / 10_000)
  return findingsOf(
    major < oldestMajor && {
      code: 'server-too-old',
      severity: 'error',
      message: `The server is PostgreSQL ${version}, but Accepted needs ${oldestMajor} or later.`,
      action: 'Upgrade the server.',
      details: { version },
    },
    major > newestMajor && {
      code: 'server-untested',
      severity: 'warning',
      message: `The server is PostgreSQL ${version}; this release of Accepted was tested with ${oldestMajor} to ${newestMajor}.`,
      action: 'Upgrade Accepted.',
      details: { version },
    },
  )
}

interface State {
  version: string
  number: number
  database: string
  encoding: string
  recovering: boolean
}

/** The version, the encoding and the kind of server. */
export const server: Check = {
  name: 'server',
  async run({ query, note }) {
    const [state] = await query(sql<State>`
      select current_setting('server_version') as version, current_setting('server_version_num')::int as number,
        current_database()::text as database, current_setting('server_encoding') as encoding,
        pg_is_in_recovery() as recovering`)
    const { version, number, database, encoding, recovering } = state as State
    note(`PostgreSQL ${version}`)
    return [
      ...judgeVersion(number, version),
      ...findingsOf(
        encoding !== 'UTF8' && {
          code: 'wrong-encoding',
          severity: 'error',
          message: `The database ${database} has the encoding ${encoding}, but Accepted needs UTF8.`,
          action: `Create another database: create database … encoding 'UTF8' template template0`,
          details: { database, encoding },
        },
        recovering && {
          code: 'standby',
          severity: 'error',
          message: 'The server is a standby, which accepts no writes.',
          action: 'Set DATABASE_URL to the URL of the primary.',
        },
      ),
    ]
  },
}
