import { isOperation } from './collect-operations.ts'
import type { Operation, PayloadFor } from './operation.ts'
import { assertOptions } from './primitives/assert-options.ts'
import { rememberSite } from './primitives/definition-site.ts'
import { problemOfPrincipal, schedulePrincipal } from './primitives/principal.ts'

/**
 * What to do about missed occurrences. An occurrence is missed when it came due more than a minute ago and no worker
 * ran at that time. `skip` ignores missed occurrences. `once` creates one job for the most recent missed occurrence.
 */
export type MissedPolicy = 'skip' | 'once'

/** When a schedule fires: set either `cron` or `rrule`. */
type Recurrence =
  | {
      /** Five fields, or six fields with the seconds first, or a shorthand such as `@daily`. */
      cron: string
      rrule?: never
    }
  | {
      /** A recurrence rule `FREQ=…`, or the lines DTSTART, RRULE, RDATE and EXDATE (RFC 5545, section 3.3.10). */
      rrule: string
      cron?: never
    }

type ScheduleDefinition<O extends Operation> = Recurrence & {
  /** The key of the schedule's row in `accepted.schedule`: up to 100 letters, digits and `. _ : -`. */
  name: string
  /** An IANA time zone, for example `Europe/Berlin`. Default: `UTC`. */
  timezone?: string
  /** The operation of the jobs. Export it from the same module. Its `accept` does not run. */
  operation: O
  /** The payload of each job, or a function that returns it for the time of the occurrence. */
  payload: NoInfer<PayloadFor<O> | ((at: Date) => PayloadFor<O>)>
  /** The owner of the jobs. Default: `schedule`. */
  principal?: string
  /** What to do about missed occurrences. Default: `skip`. */
  missed?: MissedPolicy
}

/** A recurring job. Create it with {@link defineSchedule}. */
export interface Schedule {
  readonly name: string
  /** The `cron` or `rrule` expression. */
  readonly expression: string
  readonly timezone: string
  readonly operation: Operation
  /** The payload of each job, or a function that returns it for the time of the occurrence. */
  readonly payload: unknown
  readonly principal: string
  readonly missed: MissedPolicy
}

const optionNames = ['name', 'cron', 'rrule', 'timezone', 'operation', 'payload', 'principal', 'missed']
const namePattern = /^[\w.:-]{1,100}$/
// Requires five fields. The cron parser would also accept fewer fields and add the missing fields on the left, which is
// never what the author meant.
const cronPattern = /^(@\w+|\S+(\s+\S+){4,5})$/

/**
 * Defines a schedule. Each occurrence becomes exactly one job of the operation, even when many workers run. Export the
 * schedule from the module of its operation. The worker parses the expression at its start. If the expression is
 * invalid, the worker does not start.
 *
 * @throws TypeError that names the invalid option
 */
export function defineSchedule<const O extends Operation>(definition: ScheduleDefinition<O>): Schedule {
  assertOptions('defineSchedule', definition, optionNames)
  const {
    name,
    cron,
    rrule,
    operation,
    payload,
    timezone = 'UTC',
    principal = schedulePrincipal,
    missed = 'skip',
  } = definition
  const ensure = (isValid: boolean, message: string) => {
    if (!isValid) throw new TypeError(`Schedule '${name}': ${message}`)
  }
  ensure(namePattern.test(name), `the name must match ${namePattern.source}, for example nightly-report`)
  ensure((cron === undefined) !== (rrule === undefined), 'set either cron or rrule')
  const expression = `${cron ?? rrule}`.trim()
  ensure(cron === undefined || cronPattern.test(expression), `cron must have five or six fields, not '${cron}'`)
  ensure(rrule === undefined || /(^|[;:\s])FREQ=/i.test(expression), `rrule must contain FREQ=, not '${rrule}'`)
  ensure(missed === 'skip' || missed === 'once', `missed must be 'skip' or 'once', not '${missed}'`)
  ensure(isOperation(operation), 'operation must be the value of defineOperation')
  const problem = principal === schedulePrincipal ? undefined : problemOfPrincipal(principal)
  ensure(!problem, `the principal ${problem}`)
  const schedule = { name, expression, timezone, operation, payload, principal, missed }
  rememberSite(schedule)
  return schedule
}

const isSchedule = (value: unknown): value is Schedule =>
  typeof value === 'object' && value !== null && 'expression' in value && 'operation' in value && 'missed' in value

/**
 * Collects the schedules of a module namespace or of any other object. Ignores values that are not schedules.
 *
 * @param operations the operations of the same object
 * @returns the schedules by name
 * @throws TypeError when two schedules have the same name, or when `operations` does not contain the operation of a
 *   schedule
 */
export function collectSchedules(record: object, operations: ReadonlyMap<string, Operation>): Map<string, Schedule> {
  const schedules = new Map<string, Schedule>()
  for (const value of Object.values(record)) {
    if (!isSchedule(value)) continue
    const { name, operation } = value
    if (operations.get(operation.name) !== operation) {
      throw new TypeError(`Schedule '${name}': export its operation '${operation.name}' from the same module`)
    }
    const other = schedules.get(name)
    if (other && other !== value) {
      throw new TypeError(`Two schedules are named '${name}'; a schedule's name must be unique`)
    }
    schedules.set(name, value)
  }
  return schedules
}
