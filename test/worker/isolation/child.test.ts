import { execFileSync } from 'node:child_process'
import { join } from 'node:path'
import t from 'tap'

t.test('the build contains the program that child processes and threads run', async (t) => {
  const root = join(import.meta.dirname, '../../..')
  const outDir = t.testdir()
  const tsc = join(root, 'node_modules/typescript/lib/tsc.js')
  execFileSync(process.execPath, [tsc, '-p', 'tsconfig.build.json', '--noCheck', '--outDir', outDir], { cwd: root })
  const { startProcess, startThread } = await import(join(outDir, 'worker/isolation/child.js'))
  for (const start of [startProcess, startThread]) {
    const child = start()
    const module = 'data:text/javascript,export default async ({ payload }) => payload'
    const received = new Promise((resolve) => {
      child.listener = { onMessage: resolve, onEnd: resolve }
    })
    child.send({ type: 'perform', job: { module, logLevel: 'info', payload: 1 } })
    t.same(await received, { type: 'started' })
    child.send({ type: 'exit' })
    t.equal(await child.ended, 'exit code 0')
  }
})
