import type { Finding } from '../doctor/check.ts'
import { type Examination, examine } from '../doctor/doctor.ts'
import { loadConfig } from '../load-config.ts'
import { printable } from '../primitives/printable.ts'
import { readSettings } from '../settings.ts'
import { withCommands } from './command-hints.ts'
import { readEncryptionKeys } from './encryption-keys.ts'
import type { OutputOptions } from './output-options.ts'
import { withDatabase } from './with-database.ts'

interface DoctorOptions extends OutputOptions {
  config?: string
  verbose?: boolean
}

/**
 * Runs `accepted doctor`: prints what is wrong with the server, the schema and the jobs, and what to do about it. The
 * exit code is 1 if there are errors, and 0 if there are only warnings.
 */
export async function doctorCommand(options: DoctorOptions): Promise<void> {
  const { POOL_SIZE: poolSize } = readSettings()
  const keyIds = readEncryptionKeys()?.ids
  const appMigrations = options.config ? (await loadConfig(options.config)).migrations : undefined
  const examination = await withDatabase((_db, database) => examine(database, { poolSize, appMigrations, keyIds }))
  const { findings } = examination
  if (options.json) console.log(JSON.stringify(findings))
  else console.log(formatExamination(examination, options.verbose ?? false))
  if (findings.some(({ severity }) => severity === 'error')) process.exitCode = 1
}

/** One line for each finding, then a line that counts them. */
export function formatExamination({ findings, notes }: Examination, isVerbose: boolean): string {
  const width = Math.max(0, ...findings.map(({ code }) => code.length))
  const lines = findings.map(
    ({ severity, code, message, action }) =>
      `${severity.padEnd('warning'.length)}  ${code.padEnd(width)}  ${printable(message)} To do: ${printable(withCommands(action))}`,
  )
  const nameWidth = Math.max(0, ...notes.map(({ check }) => check.length))
  const checked = notes.map(({ check, text }) => `ok       ${check.padEnd(nameWidth)}  ${printable(text)}`)
  return [...(isVerbose ? checked : []), ...lines, summarize(findings)].join('\n')
}

function summarize(findings: readonly Finding[]): string {
  if (findings.length === 0) return 'No problems found.'
  const count = (severity: Finding['severity']) => {
    const number = findings.filter((finding) => finding.severity === severity).length
    return number > 0 ? [`${number} ${severity}${number === 1 ? '' : 's'}`] : []
  }
  return `Found ${[...count('error'), ...count('warning')].join(' and ')}.`
}
