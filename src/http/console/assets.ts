import type { FastifyInstance } from 'fastify'
import { assetRoute, assetUrl } from '../pages/assets.ts'

const ours = ['console.css', 'console.js', 'console-charts.js']
const ofChartLibrary = ['uPlot.esm.js', 'uPlot.min.css']

/** Adds the routes of the scripts and styles. */
export async function assetRoutes(app: FastifyInstance): Promise<void> {
  for (const name of ours) await assetRoute(app, `/assets/${name}`, assetUrl(name))
  const library = import.meta.resolve('uplot')
  for (const name of ofChartLibrary) await assetRoute(app, `/assets/${name}`, new URL(name, library).href)
}
