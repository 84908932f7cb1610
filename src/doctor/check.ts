import type { RawBuilder } from 'kysely'
import type { Database } from '../db/database.ts'
import type { Limits } from './limits.ts'

/** What a check has found. */
export interface Finding {
  /** Stable, for programs. */
  code: string
  /** `error`: something is broken, or accepted jobs may be lost. `warning`: everything works, but not as it should. */
  severity: 'error' | 'warning'
  /** What is wrong, with figures. */
  message: string
  /** What to do about it: a sentence, a command or a statement. */
  action: string
  /** The figures of the message, for programs. */
  details?: Readonly<Record<string, unknown>>
}

/** What the checks work with. */
export interface CheckContext {
  database: Database
  limits: Limits
  /** Directory of the app's own migrations. */
  appMigrations?: string | undefined
  /** The maximum size of the pools of API and worker, if POOL_SIZE sets it. */
  poolSize?: number | undefined
  /** The ids of the keys in ENCRYPTION_KEYS; none if it is not set. */
  keyIds: readonly string[]
  /** Whether DATABASE_URL leads through a pooler. */
  isPooled: boolean
  /** Whether the role of DATABASE_URL can accept jobs. Otherwise it is the role of a person. */
  isProgramRole: boolean
  /** The clock of this machine: milliseconds since 1970. */
  now(): number
  /** Runs a statement. It fails if it takes too long or waits too long for a lock. */
  query<Row>(statement: RawBuilder<Row>): Promise<Row[]>
  /** Records something that the role may not read. */
  hide(what: string): void
  /** Adds a line to the verbose output. */
  note(text: string): void
}

export interface Check {
  /** What is checked, for people. */
  name: string
  run(context: CheckContext): Promise<Finding[]>
}

/** Returns the findings whose condition is true. */
export const findingsOf = (...found: (Finding | false | undefined | null)[]): Finding[] =>
  found.filter((finding) => !!finding)
