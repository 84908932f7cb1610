import { chmod, mkdir, mkdtemp, readdir, readlink, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { restoreLinks } from '../../src/embedded-postgres/programs.ts'

const isRoot = process.getuid?.() === 0

t.test('the links between the libraries of Postgres are created if no install script has run', async (t) => {
  const directory = await mkdtemp(join(tmpdir(), 'accepted-links-'))
  t.teardown(() => rm(directory, { recursive: true }))
  const native = join(directory, 'native')
  await mkdir(join(native, 'lib'), { recursive: true })
  await restoreLinks(native)
  t.same(await readdir(join(native, 'lib')), [], 'a package without links')

  const source = 'native/lib/libpq.so.5.18'
  const links = ['native/lib/libpq.so', 'native/lib/libpq.so.5'].map((target) => ({ source, target }))
  await writeFile(join(native, 'pg-symlinks.json'), JSON.stringify(links))
  await restoreLinks(native)
  await chmod(join(native, 'lib'), 0o555)
  await restoreLinks(native)
  t.equal(await readlink(join(native, 'lib/libpq.so')), 'libpq.so.5.18')
  t.equal(await readlink(join(native, 'lib/libpq.so.5')), 'libpq.so.5.18')

  // Root may write to any directory, but to none that is missing.
  if (isRoot) await rm(join(native, 'lib'), { recursive: true })
  else {
    await chmod(join(native, 'lib'), 0o755)
    await rm(join(native, 'lib/libpq.so'))
    await chmod(join(native, 'lib'), 0o555)
  }
  const message =
    /^The library .*libpq\.so is missing, and cannot be created \((ENOENT|EACCES)\): make .* writable once/
  await t.rejects(restoreLinks(native), { code: 'no-binaries', message })
  if (!isRoot) await chmod(join(native, 'lib'), 0o755)
})
