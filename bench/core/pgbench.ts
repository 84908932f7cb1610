import { execFile } from 'node:child_process'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { hasProgram, installPackage } from '../../test/support/debian-package.ts'

export interface PgbenchRun {
  script: string
  clients: number
  /** The end: after a number of seconds, or after a number of runs of the script per client. */
  end: { seconds: number } | { runs: number }
}

/** Runs a script with prepared statements. Each client has a variable `count`. Returns the runs per second. */
export async function pgbench(directory: string, url: string, { script, clients, end }: PgbenchRun): Promise<number> {
  installPackage('postgresql-client', () => hasProgram('pgbench'))
  const file = join(directory, 'pgbench.sql')
  await writeFile(file, script)
  const until = 'seconds' in end ? ['-T', String(end.seconds)] : ['-t', String(end.runs)]
  const args = ['-n', '-M', 'prepared', '-D', 'count=0', '-c', String(clients), '-j', '1', ...until, '-f', file, url]
  const { stdout } = await promisify(execFile)('pgbench', args)
  const [, perSecond] = stdout.match(/^tps = ([\d.]+)/m) ?? []
  if (perSecond === undefined) throw new Error(`pgbench printed no rate: ${stdout}`)
  return Number(perSecond)
}
