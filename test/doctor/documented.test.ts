import { globSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'

const root = join(import.meta.dirname, '../..')
const read = (file: string) => readFileSync(join(root, file), 'utf8')

t.test('docs/doctor.md lists every code', async (t) => {
  const source = globSync('src/doctor/*.ts', { cwd: root }).map(read).join('\n')
  const codes = [
    ...source.matchAll(/(?:\bcode: (?:\w+ \? )?|findProblem\()'([a-z-]+)'(?: : '([a-z-]+)')?/g),
    ...source.matchAll(/\bsetting: ('[a-z_]+')/g),
  ].flatMap(([, one, other]) => [one, other].filter((code) => code !== undefined))
  t.ok(codes.includes('queue-row-without-job') && codes.includes('job-without-queue-row'))
  const documented = read('docs/doctor.md')
  const missing = codes
    .map((code) => (code.startsWith("'") ? `setting-${code.slice(1, -1).replaceAll('_', '-')}` : code))
    .filter((code) => !documented.includes(`\`${code}\``))
  t.same(missing, [])
})
