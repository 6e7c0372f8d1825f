/** A picture made of a peer id: a flower whose petals and colours nobody can choose, so it tells peers apart. */

import { numbersFrom } from "../seeded.js";
import { setAttribute } from "./dom.js";

const SVG = "http://www.w3.org/2000/svg";

/** Makes `element` show the picture of a peer, unless it does already. */
export function showAvatar(element: HTMLElement, peer: string): void {
  if (element.dataset["peer"] === peer) {
    return;
  }
  element.dataset["peer"] = peer;
  setAttribute(element, "aria-hidden", "true");
  element.replaceChildren(draw(element, peer));
}

function draw(element: HTMLElement, peer: string): SVGElement {
  const next = numbersFrom(`picture ${peer}`);
  const hue = Math.floor(next() * 360);
  // The second colour keeps a distance, so that the petals always stand out.
  const other = Math.round(hue + 70 + next() * 220) % 360;
  element.style.setProperty("--hue", String(hue));
  element.style.setProperty("--other-hue", String(other));

  element.dataset["tone"] = next() < 0.5 ? "soft" : "deep";

  const picture = shape("svg", { viewBox: "-50 -50 100 100" });
  picture.append(shape("rect", { class: "avatar-ground", x: -50, y: -50, width: 100, height: 100 }));
  const petals = 3 + Math.floor(next() * 6);
  const turn = next() * 360;
  ring(picture, "avatar-back", petals, turn + 180 / petals, 24 + next() * 10, 8 + (next() * 44) / petals, 25);
  ring(picture, "avatar-front", petals, turn, 14 + next() * 9, 6 + (next() * 34) / petals, 16 + next() * 4);
  picture.append(shape("circle", { class: "avatar-heart", r: 5 + next() * 5 }));
  return picture;
}

function ring(
  picture: SVGElement,
  name: string,
  petals: number,
  turn: number,
  length: number,
  width: number,
  distance: number,
): void {
  for (let index = 0; index < petals; index += 1) {
    const angle = turn + (360 * index) / petals;
    picture.append(
      shape("ellipse", {
        class: name,
        cy: -distance,
        rx: width.toFixed(1),
        ry: (length / 1.4).toFixed(1),
        transform: `rotate(${angle.toFixed(1)})`,
      }),
    );
  }
}

function shape(name: string, attributes: Record<string, string | number>): SVGElement {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) {
    element.setAttribute(key, String(value));
  }
  return element;
}
