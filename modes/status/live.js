// Puts each section that the server sends in its place. All of it is made and
// escaped there.
"use strict";

const state = document.getElementById("connection");

// Moments as this reader's clock shows them.
function localTimes(element) {
  const today = new Date().toDateString();
  for (const time of element.querySelectorAll("time")) {
    const moment = new Date(time.dateTime);
    const clock = moment.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit" });
    time.textContent = moment.toDateString() === today ? clock : moment.toLocaleDateString() + " " + clock;
    time.title = moment.toLocaleString();
  }
  for (const title of element.querySelectorAll("title[data-at]")) {
    const clock = new Date(title.dataset.at).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
    title.textContent = clock + " " + title.dataset.of;
  }
}

localTimes(document.body);
const events = new EventSource("events");
for (const section of document.querySelectorAll("[data-live]")) {
  events.addEventListener(section.id, (event) => {
    section.innerHTML = event.data;
    localTimes(section);
  });
}
events.onopen = () => {
  state.textContent = "live";
  state.className = "live";
};
events.onerror = () => {
  state.textContent = "not connected: the server may have ended; trying again";
  state.className = "cut";
};
