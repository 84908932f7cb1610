import type { Operation, PayloadFor } from './operation.ts'

/**
 * What becomes of occurrences that came due while no worker ran, and are more than a minute old: `skip` lets them pass,
 * `once` makes one job for the most recent of them, however many there were.
 */
export type MissedPolicy = 'skip' | 'once'

/** When, in one of two notations. */
type Recurrence =
  /** Five fields, or six with seconds first, or `@daily` and the like. */
  | { cron: string; rrule?: never }
  /** RFC 5545, section 3.3.10: `FREQ=…`, or the lines DTSTART, RRULE, RDATE and EXDATE of a calendar entry. */
  | { rrule: string; cron?: never }

type ScheduleDefinition<O extends Operation> = Recurrence & {
  /** Names its row in `accepted.schedule`: letters, digits, and `. _ : -`, up to 100. */
  name: string
  /** An IANA name, for example `Europe/Berlin`; default UTC. */
  timezone?: string
  /** What each occurrence becomes a job of; its `accept` is not run. */
  operation: O
  /** The payload, or what makes it from the time of the occurrence. */
  payload: NoInfer<PayloadFor<O> | ((at: Date) => PayloadFor<O>)>
  /** Whose jobs they are; default `schedule`. */
  principal?: string
  /** Default `skip`. */
  missed?: MissedPolicy
}

/** A job again and again; made by {@link defineSchedule}. */
export interface Schedule {
  readonly name: string
  readonly expression: string
  readonly timezone: string
  readonly operation: Operation
  /** A value, or a function of the time of the occurrence. */
  readonly payload: unknown
  readonly principal: string
  readonly missed: MissedPolicy
}

const namePattern = /^[\w.:-]{1,100}$/
// Fewer fields would be filled up from the left, and mean what nobody has meant.
const cronPattern = /^(@\w+|\S+(\s+\S+){4,5})$/

/**
 * Defines a schedule: each of its occurrences becomes one job of the operation, however many workers run. Export it
 * beside the operations. Which times are meant is read when the worker starts, which it does not with a wrong expression.
 *
 * @throws TypeError when a name, an expression or a policy cannot be used; it says which
 */
export function defineSchedule<const O extends Operation>(definition: ScheduleDefinition<O>): Schedule {
  const {
    name,
    cron,
    rrule,
    operation,
    payload,
    timezone = 'UTC',
    principal = 'schedule',
    missed = 'skip',
  } = definition
  const demand = (met: boolean, what: string) => {
    if (!met) throw new TypeError(`Schedule '${name}': ${what}`)
  }
  demand(namePattern.test(name), `the name must match ${namePattern.source}`)
  demand((cron === undefined) !== (rrule === undefined), 'it needs either cron or rrule')
  const expression = (cron ?? rrule ?? '').trim()
  demand(cron === undefined || cronPattern.test(expression), `cron needs five fields, or six, not '${cron}'`)
  demand(rrule === undefined || /(^|[;:\s])FREQ=/i.test(expression), `rrule must have FREQ=, not '${rrule}'`)
  demand(missed === 'skip' || missed === 'once', `missed must be 'skip' or 'once', not '${missed}'`)
  demand(principal !== '', 'the principal must not be empty')
  return { name, expression, timezone, operation, payload, principal, missed }
}

const isSchedule = (value: unknown): value is Schedule =>
  typeof value === 'object' && value !== null && 'expression' in value && 'operation' in value && 'missed' in value

/**
 * The schedules among the values of a module namespace or any other record; what is no schedule is ignored.
 *
 * @param operations those of the same record
 * @throws TypeError when two have the same name, or one is of an operation that is not among these
 */
export function schedulesIn(record: object, operations: ReadonlyMap<string, Operation>): Map<string, Schedule> {
  const schedules = new Map<string, Schedule>()
  for (const value of Object.values(record)) {
    if (!isSchedule(value)) continue
    const { name, operation } = value
    if (operations.get(operation.name) !== operation) {
      throw new TypeError(`Schedule '${name}': its operation '${operation.name}' is not among the exports beside it`)
    }
    const other = schedules.get(name)
    if (other && other !== value) throw new TypeError(`Two schedules are named '${name}'`)
    schedules.set(name, value)
  }
  return schedules
}
