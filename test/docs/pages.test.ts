import { execFile } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { promisify } from 'node:util'
import t from 'tap'
import { sections } from '../../docs/.vitepress/sidebar.ts'
import { anchorsOf, findViolation, linksOf, parsePage, readPages, root } from './markdown.ts'
import { createProject } from './project.ts'

const pages = readPages()
const allBlocks = pages.flatMap(({ blocks }) => blocks)

t.test('every code block has a valid marker', async (t) => {
  t.ok(allBlocks.length > 0)
  for (const block of allBlocks) t.equal(findViolation(block), undefined, block.place)
})

t.test('a code block with a missing or wrong marker is reported', async (t) => {
  const { blocks } = parsePage(
    'x.md',
    '```ts\n1\n```\n```\n2\n```\n```bash run\n```\n```ts file\n```\n```sql check\n```\n',
  )
  t.equal(blocks.length, 5)
  for (const block of blocks) t.type(findViolation(block), 'string', block.place)
})

t.test('every code block that shows a part of a file is up to date', async (t) => {
  const shown = allBlocks.filter(({ marker }) => marker === 'source')
  t.ok(shown.length > 0)
  for (const { place, file, text } of shown) {
    t.ok(readFileSync(join(root, file as string), 'utf8').includes(text), `${place}: ${file}`)
  }
})

t.test('the paragraph before a code block of a file names the file, because the marker is not visible', async (t) => {
  for (const { name, text } of pages) {
    for (const [, paragraph = '', file = ''] of text.matchAll(/(?:^|\n\n)((?:.+\n)+)\n {0,3}```\w+ file=(\S+)$/gm))
      t.ok(paragraph.includes(basename(file)), `${name}: ${file}`)
    t.notMatch(text, /```\n+ {0,3}```\w+ file=/, `${name}: two files in a row`)
  }
})

t.test('every relative link leads to a file and a heading that exist', async (t) => {
  const links = pages.flatMap(linksOf)
  t.ok(links.length > 0)
  for (const { page, target, file, anchor } of links) {
    const path = join(root, file)
    if (!t.ok(existsSync(path), `${page}: ${target}`) || anchor === undefined) continue
    t.ok(anchorsOf(readFileSync(path, 'utf8')).includes(anchor), `${page}: the heading of ${target}`)
  }
})

t.test('every test that a page names is in the repository', async (t) => {
  const named = pages.flatMap(({ name, text }) =>
    [...text.matchAll(/`(test\/[\w./-]+\.ts)`/g)].map(([, file]) => [name, file]),
  )
  t.ok(named.length > 0)
  for (const [name, file] of named) t.ok(existsSync(join(root, file as string)), `${name}: ${file}`)
})

t.test('the sidebar of the site has every page once', async (t) => {
  const listed = sections.flatMap((section) => section.pages)
  const expected = [...pages.map(({ name }) => name), 'CHANGELOG.md', 'bench/RESULTS.md']
  t.same(listed.toSorted(), expected.filter((name) => name !== 'README.md').sort())
})

const maxReadmeLines = 220

t.test(`README.md has at most ${maxReadmeLines} lines`, async (t) => {
  t.ok(readFileSync(join(root, 'README.md'), 'utf8').trimEnd().split('\n').length <= maxReadmeLines)
})

t.test('the TypeScript of all pages passes the type check', async (t) => {
  const { directory, write } = await createProject(t)
  let count = 0
  for (const { name, blocks } of pages) {
    for (const [index, { language, marker, file, text }] of blocks.entries()) {
      // A block that shows a part of a file is checked with that file.
      if (language !== 'ts' || marker === 'illustration' || marker === 'source') continue
      const page = basename(name, '.md')
      // Files of an app of their own would be beside those of the checkout.
      await write(file?.startsWith('examples/') ? file : `checked/${page}${file ? `/${file}` : `-${index}.ts`}`, text)
      count += 1
    }
  }
  t.ok(count > 0)
  await write('checked/wrong.ts', "import { defineOperation } from 'accepted'\ndefineOperation({ name: 7 })\n")
  await writeFile(
    join(directory, 'tsconfig.docs.json'),
    JSON.stringify({ extends: join(root, 'tsconfig.json'), include: ['examples', 'checked', 'src/**/*.d.ts'] }),
  )
  // Several checkers would check the declarations of the dependencies several times.
  const tsc = promisify(execFile)(
    join(root, 'node_modules/.bin/tsc'),
    ['--project', 'tsconfig.docs.json', '--checkers', '1'],
    { cwd: directory },
  )
  const printed = await tsc.then(
    () => '',
    ({ stdout }) => String(stdout),
  )
  // The lines after an error that explain it are indented.
  const errors = printed.split('\n').filter((line) => /^\S/.test(line))
  t.match(errors[0], /^checked\/wrong\.ts.*error TS/, 'a type error is found')
  t.same(errors.slice(1), [])
})
