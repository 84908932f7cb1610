import { execFile } from 'node:child_process'
import { globSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import t from 'tap'
import { exitGraceSeconds, readSettings } from '../../src/settings.ts'

const directory = join(import.meta.dirname, '../../deploy/systemd')
const units = globSync('*.service', { cwd: directory })
  .sort()
  .map((name) => join(directory, name))

const analyze = (...args: string[]) =>
  promisify(execFile)('systemd-analyze', args).then(
    () => '',
    ({ code, stderr }) => (code === 'ENOENT' ? undefined : `${stderr}` || `exit code ${code}`),
  )

const skip = (await analyze('--version')) === undefined && 'systemd-analyze is not installed'

t.test('systemd accepts the units', { skip }, async (t) => {
  t.equal(units.length, 3)
  t.equal(await analyze('verify', ...units), '')
})

t.test('systemd finds the units well protected', { skip }, async (t) => {
  // In tenths, from 0 (protected) to 100.
  for (const unit of units) t.equal(await analyze('security', '--offline=true', '--threshold=20', unit), '', unit)
})

t.test('the units run the commands, and give them enough time to stop', async (t) => {
  const { GRACE_SECONDS } = readSettings({})
  const commands = units.map((unit) => {
    const text = readFileSync(unit, 'utf8')
    const command = /^ExecStart=\/usr\/bin\/env node node_modules\/accepted\/(\S+) (.*)$/m.exec(text)
    t.equal(command?.[1], JSON.parse(readFileSync(join(directory, '../../package.json'), 'utf8')).bin.accepted)
    const isService = /^Restart=always$/m.test(text)
    t.equal(isService, /^Requires=accepted-migrate\.service$/m.test(text))
    const seconds = Number(/^TimeoutStopSec=(\d+)$/m.exec(text)?.[1])
    if (isService) t.ok(seconds > GRACE_SECONDS + exitGraceSeconds + 1)
    return command?.[2]
  })
  t.same(commands, ['api --processes auto', 'migrate', 'worker --processes auto'])
})
