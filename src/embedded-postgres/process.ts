import { spawn } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import { EmbeddedPostgresError } from './embedded-postgres-error.ts'

/** The user that runs the server. */
export interface Account {
  uid: number
  gid: number
}

/**
 * Runs a program in the root directory, which every user can enter. Returns the output. If the program fails, rejects
 * with an error that contains the output.
 */
export function runProgram(program: string, args: string[], account?: Account): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, {
      ...account,
      cwd: '/',
      env: { LC_ALL: 'C' },
      stdio: ['ignore', 'pipe', 'pipe'],
      // With this option, Ctrl-C does not stop initdb halfway. The server is stopped by the caller.
      detached: true,
    })
    let output = ''
    for (const stream of [child.stdout, child.stderr]) {
      stream.on('data', (chunk) => {
        output += chunk
      })
    }
    child.on('error', reject)
    child.on('close', (code, signal) => {
      if (code === 0) resolve(output)
      else if (signal) {
        reject(new EmbeddedPostgresError('interrupted', `${program} was stopped by ${signal}: start again.`))
      } else reject(new Error(output || `${program} exited with code ${code}`))
    })
  })
}

/**
 * Returns the start time of a process, which distinguishes it from a later process with the same pid. Returns undefined
 * when the process has ended or is a zombie.
 */
export async function processStartTime(pid: number): Promise<string | undefined> {
  if (!pid) return undefined
  if (process.platform === 'linux') {
    const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => undefined)
    // See proc_pid_stat(5). The name in parentheses may contain any character, so only the text after it is split.
    // There, index 0 is field 3 (state) and index 19 is field 22 (starttime).
    const fields = stat?.slice(stat.lastIndexOf(')') + 2).split(' ')
    return fields?.[0] === 'Z' ? undefined : fields?.[19]
  }
  const output = await runProgram('/bin/ps', ['-o', 'stat=,lstart=', '-p', String(pid)]).catch(() => '')
  const [state, ...startTime] = output.trim().split(/\s+/)
  return !state || state.startsWith('Z') ? undefined : startTime.join('-')
}
