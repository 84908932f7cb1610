import { type Violation, violations } from './checker.ts'
import type { Control } from './controls.ts'
import type { RowResult } from './row.ts'

const names = Object.keys(violations) as Violation[]

/** Returns whether a row found no violation. */
export const hasPassed = (result: RowResult): boolean =>
  result.findings.length === 0 && names.every((violation) => result[violation] === 0)

/** Formats a result: one line of counts, then one line per finding. */
export function formatResult(result: RowResult): string {
  const cells = [
    `${hasPassed(result) ? 'ok  ' : 'FAIL'} ${result.row}`,
    `faults: ${result.faultCount}`,
    `acknowledged intents: ${result.acknowledged}`,
    formatViolations(result),
    `recovered unknown outcomes: ${result.recovered}`,
    `repeated executions: ${result.repeatedExecutions}`,
    `recovery time: ${result.recoverySeconds.toFixed(1)} s`,
    ...result.notes,
  ]
  return [cells.join(' · '), ...result.findings.map((finding) => `       ${finding}`)].join('\n')
}

/** Returns whether the checker found the violation that the missing guard causes. */
export const isExposed = ({ expectedViolation }: Control, result: RowResult): boolean => result[expectedViolation] > 0

/** Formats the result of a control in one line. */
export function formatControlResult(control: Control, result: RowResult): string {
  return [
    `${isExposed(control, result) ? 'ok  ' : 'FAIL'} ${control.name}`,
    `must find: ${violations[control.expectedViolation]}`,
    `acknowledged intents: ${result.acknowledged}`,
    formatViolations(result),
  ].join(' · ')
}

const formatViolations = (result: RowResult): string =>
  names.map((violation) => `${violations[violation]}: ${result[violation]}`).join(' · ')
