/**
 * Builds the site into docs/.vitepress/dist. Fails if a link or its heading does not exist.
 *
 * npm run docs            builds the site
 * npm run docs -- serve   builds it, and serves it on http://localhost:4173
 */
import { join } from 'node:path'
import { build, serve } from 'vitepress'
import { findDeadLinks } from './dead-links.ts'
import { stagePages } from './stage.ts'

const site = join(import.meta.dirname, '..')

stagePages()
await build(site)
const dead = findDeadLinks(join(import.meta.dirname, 'dist'))
for (const link of dead) console.error(`Dead link: ${link}`)
if (dead.length > 0) process.exit(1)
if (process.argv[2] === 'serve') await serve({ root: site, port: 4173 })
