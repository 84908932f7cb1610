import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { createDatabase } from '../support/database.ts'
import { freePort, todosConfig } from '../support/program.ts'
import { until } from '../support/until.ts'

const main = join(import.meta.dirname, '../../src/cli/main.ts')

/** Starts `accepted worker`, with a terminal or with a pipe as its output. */
async function startWorker(t: Test, hasTerminal: boolean) {
  const command = [process.execPath, '--conditions=accepted-source', main, 'worker', '--config', todosConfig]
  // `script` gives the command a terminal, and copies what it prints.
  const [file = '', ...args] = hasTerminal ? ['script', '-qefc', command.join(' '), '/dev/null'] : command
  const child = spawn(file, args, {
    env: {
      ...process.env,
      DATABASE_URL: await createDatabase(t),
      WORKER_PORT: String(await freePort()),
      LOG_LEVEL: 'info',
    },
    detached: true,
  })
  let printed = ''
  child.stdout.on('data', (chunk) => {
    printed += chunk
  })
  const closed = once(child, 'close')
  t.teardown(async () => {
    if (child.exitCode === null && child.signalCode === null) process.kill(-(child.pid as number), 'SIGKILL')
    await closed
  })
  await until(() => printed.includes('Worker is ready'))
  return { child, closed, printed: () => printed }
}

const hasScript = await new Promise<boolean>((resolve) => {
  spawn('script', ['--version'])
    .once('error', () => resolve(false))
    .once('close', (code) => resolve(code === 0))
})

t.test('on a terminal, the log is readable', { skip: !hasScript }, async (t) => {
  const { printed } = await startWorker(t, true)
  t.match(printed(), /\d\d:\d\d:\d\d\.\d{3}\S* \S*INFO \S* Worker is ready/)
  t.notMatch(printed(), '"level"')
})

t.test('in a pipe, the log is JSON, and a worker says when it starts and stops', async (t) => {
  const { child, closed, printed } = await startWorker(t, false)
  child.kill('SIGTERM')
  t.same(await closed, [0, null])
  const lines = printed()
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line))
  t.ok(lines.every(({ level }) => level === 30))
  t.match(lines.at(-1), { msg: 'Worker has stopped' })
  t.ok(lines.some(({ msg }) => /^Health and metrics are at http:\/\/127\.0\.0\.1:\d+$/.test(msg)))
})
