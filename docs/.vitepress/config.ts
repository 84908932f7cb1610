import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { type DefaultTheme, defineConfig } from 'vitepress'
import { urlOfPage } from './links.ts'
import { referencePages } from './reference.ts'
import { sections } from './sidebar.ts'
import { root } from './stage.ts'

const titleOf = (path: string) => readFileSync(join(root, path), 'utf8').match(/^# (.+)$/m)?.[1] ?? path

const sidebar: DefaultTheme.SidebarItem[] = sections.map(({ title, pages }) => ({
  text: title,
  collapsed: false,
  items: [
    ...pages.map((path) => ({ text: titleOf(path), link: urlOfPage(path) })),
    ...(title === 'Look up' ? [{ text: 'API reference', link: '/reference/', items: [...referencePages()] }] : []),
  ],
}))

/** The anchors that GitHub makes, so that a link to a heading works in both places. */
const slugify = (heading: string): string =>
  heading
    .toLowerCase()
    .replace(/[^\p{L}\p{N}\s_-]/gu, '')
    .trim()
    .replace(/\s/g, '-')

export default defineConfig({
  title: 'Accepted',
  description: 'A job system for HTTP APIs that needs only Postgres',
  lang: 'en-US',
  srcDir: '.vitepress/pages',
  cleanUrls: true,
  metaChunk: true,
  ignoreDeadLinks: 'localhostLinks',
  markdown: {
    // Braces in sentences are no attributes.
    attrs: { disable: true },
    anchor: { slugify },
    theme: { light: 'github-light-high-contrast', dark: 'github-dark-high-contrast' },
    config(md) {
      // Colons in sentences are no emoji. With an empty list of emoji, the rule would insert "undefined".
      md.core.ruler.disable('emoji')
      const openLink = md.renderer.rules.link_open
      // Sources are plain pages, which the router of the site cannot load.
      md.renderer.rules.link_open = (tokens, index, ...others) => {
        if (tokens[index]?.attrGet('href')?.startsWith('/source/')) tokens[index].attrSet('target', '_self')
        return openLink?.(tokens, index, ...others) ?? ''
      }
    },
  },
  themeConfig: {
    sidebar,
    outline: [2, 3],
    search: { provider: 'local', options: { detailedView: true } },
    nav: [
      { text: 'Getting started', link: '/getting-started' },
      { text: 'Operations', link: '/operations' },
      { text: 'Troubleshooting', link: '/troubleshooting' },
      { text: 'API reference', link: '/reference/' },
    ],
  },
})
