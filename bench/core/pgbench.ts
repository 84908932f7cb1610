import { execFile } from 'node:child_process'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { install } from './install.ts'

/** Transactions a second of a script, prepared, from so many clients. */
export async function pgbench(
  directory: string,
  url: string,
  { script, clients, seconds }: { script: string; clients: number; seconds: number },
): Promise<number> {
  install('postgresql-client', 'pgbench')
  const file = join(directory, 'pgbench.sql')
  await writeFile(file, script)
  const args = ['-n', '-M', 'prepared', '-c', String(clients), '-j', '1', '-T', String(seconds), '-f', file, url]
  const { stdout } = await promisify(execFile)('pgbench', args)
  const [, perSecond] = stdout.match(/^tps = ([\d.]+)/m) ?? []
  if (perSecond === undefined) throw new Error(`pgbench answered ${stdout}`)
  return Number(perSecond)
}
